package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connectraft/connect/client"
)

const (
	clientsPerNode = 3
	sessionUsers   = 2 // of each session, at the same time
	beaconUsers    = 4 // of the same
	watcherUsers   = 4 // of each client that watches a node
	// pace is the time between the beginnings of two operations of a client, if they are so fast:
	// the machine has the faults to carry, too.
	pace = 8 * time.Millisecond
	// watchPause is how long a watcher rests on average.
	watchPause = 25 * time.Millisecond
	// pauseRefused is how long a client rests after an operation that was refused.
	pauseRefused = 20 * time.Millisecond
	rotateEvery  = 3 * time.Second
)

// These are the numbers of the first clients that watch a node, and that are its beacons.
const (
	watcherNumber = 1000
	beaconNumber  = 2000
)

// workload is the clients.
type workload struct {
	whole    context.Context // of the run, which may be ended early
	clock    clock
	keys     *keyspace
	findings *findings
	stop     context.CancelFunc
	clients  sync.WaitGroup
	shared   []*client.Client // of the binary protocol, the first for sessions
	newest   atomic.Int64     // see binarySession
}

// startWorkload starts clients, half of them with RESP and half with sessions of the binary protocol,
// two for each place, one that pipelines and one that only reads there, and two that repeat old
// writes.
func startWorkload(run context.Context, c *cluster, clk clock, keys *keyspace, f *findings) (
	*workload, error,
) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &workload{whole: run, clock: clk, keys: keys, findings: f, stop: cancel}
	if err := w.open(c.places); err != nil {
		w.end()
		return nil, err
	}
	for i := range clientsPerNode * len(c.nodes) {
		if i%2 == 0 {
			s := &respSession{nodes: c.places, turn: i % len(c.nodes)}
			w.clients.Go(func() { w.run(ctx, i*sessionUsers, s, anybody) })
		} else if err := w.startSession(ctx, i, w.shared[i/2%len(c.places)]); err != nil {
			w.end()
			return nil, err
		}
	}
	for _, p := range c.places {
		pl := &pipeliner{node: p, findings: f, random: rand.New(rand.NewPCG(uint64(p.number), 3))}
		w.clients.Go(func() { pl.run(ctx) })
		if err := w.startWatcher(ctx, p); err != nil {
			w.end()
			return nil, err
		}
	}
	for i := range repeaterCount {
		again := &repeater{number: i, places: c.places, turn: i, findings: f,
			random: rand.New(rand.NewPCG(uint64(i), 5))}
		w.clients.Go(func() { again.run(ctx) })
	}
	w.clients.Go(func() {
		for sleep(ctx, rotateEvery) {
			keys.rotate()
		}
	})
	return w, nil
}

// startSession opens a session and starts those who use it.
func (w *workload) startSession(ctx context.Context, number int, through *client.Client) error {
	opened, err := through.OpenSession(ctx)
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	for i := range sessionUsers {
		s := &binarySession{run: w.whole, client: through, session: opened, newest: &w.newest,
			findings: w.findings, random: rand.New(rand.NewPCG(uint64(number), uint64(i)))}
		w.clients.Go(func() { w.run(ctx, number*sessionUsers+i, s, inSession) })
	}
	return nil
}

// startWatcher starts those who share a client that begins everything at one place, whoever has it:
// watchers, which read, and beacons.
func (w *workload) startWatcher(ctx context.Context, p *process) error {
	near, err := client.Open(client.Options{Addresses: []string{p.client}})
	if err != nil {
		return err
	}
	w.shared = append(w.shared, near)
	// A node that is cut off keeps those waiting who need others, and must not keep the rest.
	watcherLevels := [watcherUsers][]level{{leased}, {leased}, {staleLevel, localLevel, atLeast},
		levels}
	for i := range watcherUsers {
		by := watching
		if i < 2 { // who writes in sessions asks the leader, and waits for it while it is cut off
			by = reading
		}
		s := &binarySession{run: w.whole, client: near, newest: &w.newest, findings: w.findings,
			levels: watcherLevels[i], random: rand.New(rand.NewPCG(uint64(p.number), uint64(6+i)))}
		w.clients.Go(func() { w.run(ctx, watcherNumber+watcherUsers*p.number+i, s, by) })
	}
	for i := range beaconUsers {
		s := &beacon{client: near, patience: time.Duration(1+i) * watchTimeout}
		w.clients.Go(func() { w.run(ctx, beaconNumber+beaconUsers*p.number+i, s, beaming) })
	}
	return nil
}

// open opens the shared clients, each with another node first.
func (w *workload) open(nodes []*process) error {
	for i := range nodes {
		var addresses []string
		for j := range nodes {
			addresses = append(addresses, nodes[(i+j)%len(nodes)].client)
		}
		c, err := client.Open(client.Options{Addresses: addresses})
		if err != nil {
			return err
		}
		w.shared = append(w.shared, c)
	}
	return nil
}

// end stops the clients; what they have under way goes on to its end.
func (w *workload) end() {
	w.stop()
	w.clients.Wait()
	for _, c := range w.shared {
		_ = c.Close()
	}
}

func (w *workload) run(ctx context.Context, number int, s session, by user) {
	defer s.close()
	for ctx.Err() == nil {
		begin := time.Now()
		k, o, ok := w.keys.take(by)
		if !ok {
			sleep(ctx, pace)
			continue
		}
		o.Client, o.Via = number, s.via()
		o = w.execute(s, o)
		w.keys.give(k, o)
		if o.Outcome == notApplied {
			sleep(ctx, pauseRefused)
		}
		if by >= watching {
			sleep(ctx, rand.N(2*watchPause))
		}
		sleep(ctx, pace-time.Since(begin))
	}
}

// execute does an operation. It goes on when the workload ends: an operation that was begun is worth
// its end.
func (w *workload) execute(s session, o operation) operation {
	words := []string{string(o.Kind), o.Key}
	if o.Kind == set {
		words = append(words, pad(o.Value))
	}
	o.Call = w.clock.now()
	r, outcome, detail := s.do(&o, words)
	o.Return = w.clock.now()
	o.Outcome, o.Detail = outcome, detail
	if outcome != applied {
		return o
	}
	if wrong := unexpected(o.Kind, r); wrong != "" {
		w.findings.violation("%s %s was answered with %s", o.Kind, o.Key, wrong)
	}
	if o.Kind != set {
		o.Value = whole(r.text, o.Key, w.findings)
	}
	return o
}

// whole returns the name of a value that was read.
func whole(stored, key string, f *findings) string {
	name, ok := unpad(stored)
	if !ok {
		f.violation("%s was answered with %d bytes that nobody wrote: %.60q", key, len(stored), stored)
	}
	return name
}

// unexpected describes an answer that the service does not give to this kind of operation.
func unexpected(k kind, r reply) string {
	_, err := strconv.ParseUint(r.text, 10, 63)
	switch {
	case r.failed != "":
		return "the error " + strconv.Quote(r.failed)
	case k == set && r.text != "OK", k == incr && err != nil:
		return strconv.Quote(r.text)
	}
	return ""
}
