package sim_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// plan is everything about a run that does not follow from its course.
type plan struct {
	config config
	length time.Duration // of the safety phase
	// A fault comes 0 to 2 gap behind the one before, and lasts for 0 to 2 lasts.
	gap, lasts time.Duration
	// If soon is not 0, faults come in the order of their kinds, each so soon behind the one before
	// (0 to 2 soon), and gap stands between the last kind and the first.
	soon   time.Duration
	faults []fault
}

// fault is one entry of the list that a failure report shortens.
type fault struct {
	at     time.Duration
	kind   faultKind
	node   uint64 // 0 = as the kind says
	lasts  time.Duration
	number uint64 // what else the kind needs
}

func (f fault) String() string {
	return fmt.Sprintf("%8.3fs %s node %d for %v (%#x)", f.at.Seconds(), f.kind, f.node, f.lasts,
		f.number)
}

type faultKind int

const (
	faultKill      faultKind = iota // kill -9, and a start after a while
	faultStop                       // an orderly stop, during which the machine may lose power
	faultTransfer                   // a node hands its leaderships over
	faultPower                      // a power cut of one machine
	faultCrashSome                  // of several at once
	faultCrashAll                   // of all at once
	faultOutage                     // a node is away so long that its log is no longer there
	faultRecovery                   // a power cut, and another one while the node starts
	faultAgain                      // a power cut, and deaths within the first appends behind it
	faultPause                      // nothing runs, then the clock has jumped
	faultRate                       // a clock runs at another rate
	faultJump                       // a clock jumps
	faultStall                      // a disk answers nothing
	faultFull                       // a disk has no room
	faultIO                         // a write or a sync fails
	faultRead                       // a read fails, or returns something else
	faultLie                        // a sync fails once, and its pages count as clean
	faultFlip                       // a bit of the log is flipped while the node is down
	faultWipe                       // the disk of a node that is down is replaced by an empty one
	faultForeign                    // the disk of another cluster's node is put in
	faultRot                        // the newest snapshot is damaged while the node is down
	faultIsolate                    // one node is cut off
	faultSplit                      // two halves
	faultOneWay                     // one node hears nothing, or is not heard
	faultPartial                    // some links are cut, some in one direction
	faultClog                       // links hold everything back, then deliver it at once
	faultChange                     // the operator asks for a change of the members
	faultMove                       // the operator asks for a transfer of a leadership
	faultUpgrade                    // a node starts again with the next release
	faultKinds
)

func (k faultKind) String() string {
	return [...]string{"kill", "stop", "transfer", "power", "crash some", "crash all", "outage",
		"crash in recovery", "again", "pause", "rate", "jump", "stall", "full", "io", "read", "lie", "flip",
		"wipe", "foreign disk", "rot", "isolate", "split", "one way", "partial", "clog", "change",
		"move", "upgrade"}[k]
}

// drawPlan draws a plan. Each run has some kinds of faults and not the others, and its own pace. If
// kinds are given it has these, and three nodes, where each counts most.
func drawPlan(seed uint64, length time.Duration, only ...faultKind) plan {
	return drawPlanWith(seed, length, nil, only)
}

// drawPlanWith is drawPlan with functions that change what was drawn before the faults are.
func drawPlanWith(seed uint64, length time.Duration, set []func(*plan), only []faultKind) plan {
	r := newSources(seed).plan
	p := plan{config: drawConfig(r), length: length}
	if only != nil {
		p.config.replicas = 3
	}
	var kinds []faultKind
	for k := range faultKinds {
		if r.IntN(100) < 40 {
			kinds = append(kinds, k)
		}
	}
	if only != nil {
		kinds = only
	}
	if !slices.Contains(kinds, faultChange) {
		p.config.spares = 0
	}
	if !slices.Contains(kinds, faultUpgrade) {
		p.config.rollout = noRollout
	}
	if len(kinds) == 0 {
		return p
	}
	p.gap = choose[time.Duration](r, 300, 1000, 3000) * time.Millisecond
	p.lasts = choose[time.Duration](r, 200, 1000, 4000) * time.Millisecond
	for _, change := range set {
		change(&p)
	}
	p.drawFaults(r, kinds)
	return p
}

func (p *plan) drawFaults(r *rand.Rand, kinds []faultKind) {
	for at := time.Second; at < p.length; {
		f := fault{at: at, kind: kinds[r.IntN(len(kinds))], number: r.Uint64(),
			node:  uint64(1 + r.IntN(p.config.replicas+p.config.spares)),
			lasts: time.Duration(r.Int64N(int64(2*p.lasts)) + 1)}
		gap := p.gap
		if turn := len(p.faults) % len(kinds); p.soon != 0 {
			f.kind = kinds[turn]
			if turn < len(kinds)-1 {
				gap = p.soon
			}
		}
		if f.kind == faultOutage {
			f.lasts += 5 * time.Second
		}
		p.faults = append(p.faults, f)
		at += time.Duration(r.Int64N(int64(2 * gap)))
	}
}

// inject begins a fault.
func (w *world) inject(f fault) {
	w.trace.note("fault", f.node, 0, uint64(f.kind), f.number)
	w.trace.say("fault %v", f)
	w.stats.faults[f.kind]++
	r := rand.New(rand.NewPCG(f.number, 1))
	h := w.host(f.node)
	switch f.kind {
	case faultTransfer:
		h.handOver()
	case faultChange:
		w.operate(r)
	case faultMove:
		w.move(f, r)
	case faultUpgrade:
		h.injectUpgrade(f.lasts, r)
	case faultStop:
		if r.IntN(4) == 0 {
			h.crashStart = 1 + r.IntN(6)
		}
		h.stop()
		h.start(f.lasts)
	case faultKill, faultPower, faultOutage, faultCrashSome, faultCrashAll, faultRecovery,
		faultAgain, faultFlip, faultWipe, faultForeign, faultRot:
		w.injectCrash(f, h, r)
	case faultPause, faultRate, faultJump:
		w.injectClock(f, h, r)
	case faultStall, faultFull, faultIO, faultRead, faultLie:
		w.injectDisk(f, h, r)
	default:
		w.injectLinks(f, r)
	}
}

func (w *world) injectCrash(f fault, h *host, r *rand.Rand) {
	hosts := []*host{h}
	switch f.kind {
	case faultCrashAll:
		hosts = w.hosts
	case faultCrashSome:
		hosts = nil
		for _, i := range r.Perm(len(w.hosts))[:1+r.IntN(len(w.hosts))] {
			hosts = append(hosts, w.hosts[i])
		}
	}
	for _, h := range hosts {
		h.crash(f.kind != faultKill && (f.kind != faultCrashSome || r.IntN(2) == 0))
		away := time.Duration(r.Int64N(int64(100 * time.Millisecond)))
		if f.kind != faultKill || r.IntN(2) == 0 { // else something starts it again at once
			away += f.lasts
		}
		h.start(away)
	}
	switch f.kind {
	case faultRecovery:
		h.crashStart = 1 + r.IntN(25)
	case faultAgain:
		h.dieAgain(r, 1+r.IntN(4))
	case faultFlip:
		h.flip(r)
	case faultRot:
		h.rot(r)
	case faultWipe:
		h.wipe()
	case faultForeign:
		h.swap()
	}
}

func (w *world) injectClock(f fault, h *host, r *rand.Rand) {
	switch f.kind {
	case faultPause:
		h.pausedUntil = max(h.pausedUntil, w.now+int64(f.lasts))
	case faultRate:
		rate := []float64{0.5, 0.8, 0.99, 1.01, 1.25, 2}[r.IntN(6)]
		if w.plan.config.leases {
			rate = min(max(rate, 0.96), 1.04)
		}
		h.setClock(rate, 0)
		w.after(f.lasts, func() { h.setClock(1, 0) })
	case faultJump:
		h.setClock(h.rate, time.Duration(r.Int64N(int64(20*time.Second)))-10*time.Second)
	}
}
