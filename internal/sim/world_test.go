package sim_test

import (
	"fmt"
	"io"
	"runtime/debug"
	"testing"
	"testing/cryptotest"
	"time"
)

// world is one run.
type world struct {
	clock
	trace      trace
	plan       plan
	mutant     mutant
	rng        sources
	hosts      []*host // by id, from 1
	net        *network
	oracle     *oracle
	people     []*client
	changes    []*change // by id, from 1
	quietUntil int64     // clients do nothing before
	readsGoOn  bool      // but read
	healed     bool      // the faults are over
	impatient  bool      // the operator waits for nobody any more who was removed
	stats      stats
}

type stats struct {
	faults    [faultKinds]int
	outcomes  [3]int
	repeats   int // of commands of sessions, by their clients
	damages   int
	mended    int
	changes   int // of members, that the node asked has seen applied
	rests     int
	transfers int // of leaderships, that succeeded
	judged    int // operations that porcupine has seen
	fenced    int
	refused   [2]int // entries and snapshots of the next release, by the present one
}

// result is what became of a run.
type result struct {
	hash      uint64
	now       time.Duration
	events    uint64
	stats     stats
	elections int
	committed int
	violation *violation
}

// violation says which invariant does not hold, and how that shows.
type violation struct {
	invariant, detail string
	at                time.Duration
	stack             string // of a panic
}

func (v *violation) Error() string {
	return fmt.Sprintf("%s violated at %v: %s%s", v.invariant, v.at, v.detail, v.stack)
}

// violated ends the run.
func (w *world) violated(invariant, format string, args ...any) {
	panic(&violation{invariant: invariant, detail: fmt.Sprintf(format, args...),
		at: time.Duration(w.now)})
}

func (w *world) host(id uint64) *host { return w.hosts[id-1] }

// simulate runs a plan from its seed; out, if not nil, gets a readable trace.
func simulate(t *testing.T, seed uint64, p plan, m mutant, out io.Writer) (r result) {
	cryptotest.SetGlobalRandom(t, seed) // raft draws its election timeouts there
	w := &world{plan: p, mutant: m, rng: newSources(seed)}
	w.trace = trace{clock: &w.clock, out: out}
	defer func() {
		if v := recover(); v != nil {
			known, ok := v.(*violation)
			if !ok {
				known = &violation{invariant: "no panic", detail: fmt.Sprint(v), at: time.Duration(w.now),
					stack: "\n" + string(debug.Stack())}
			}
			r.violation = known
			w.trace.say("%v", known)
		}
		r.hash, r.now, r.events, r.stats = w.trace.hash, time.Duration(w.now), w.events, w.stats
		r.elections = w.oracle.elections
		for _, g := range w.oracle.groups {
			r.committed += len(g.committed)
		}
	}()
	w.oracle = newOracle(w, p.config.groups)
	for id := range p.config.replicas + p.config.spares {
		w.hosts = append(w.hosts, newHost(w, uint64(id+1)))
	}
	w.net = newNetwork(w, len(w.hosts))
	w.drawReleases()
	w.mutateWorld()
	w.safety()
	w.liveness()
	w.oracle.checkHistory()
	return r
}

// safety is the phase with faults.
func (w *world) safety() {
	for _, h := range w.hosts {
		h.setClock(1, time.Duration(w.rng.process.Int64N(int64(time.Second))))
		if h.isFirst() {
			h.start(w.between(0, 50*time.Millisecond))
		} else if w.rng.process.IntN(2) == 0 {
			h.start(w.between(0, w.plan.length)) // waits to be added
		}
	}
	for i := range w.plan.config.clients {
		c := &client{w: w, id: i}
		for range w.plan.config.groups * (i % 2) { // every other client has sessions
			c.sessions = append(c.sessions, &session{})
		}
		w.people = append(w.people, c)
		w.after(w.between(0, time.Second), c.next)
	}
	if w.plan.config.leases {
		for _, h := range w.hosts {
			w.after(time.Second, (&watcher{w: w, host: h.id}).next)
		}
	}
	w.after(w.between(0, 5*time.Second), w.lull)
	for _, f := range w.plan.faults {
		w.at(int64(f.at), func() {
			if !w.healed {
				w.inject(f)
			}
		})
	}
	w.runUntil(int64(w.plan.length))
}

func (w *world) runUntil(deadline int64) {
	for w.step(deadline) {
	}
}
