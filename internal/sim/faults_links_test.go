package sim_test

import (
	"math/rand/v2"
	"time"
)

func (w *world) injectLinks(f fault, r *rand.Rand) {
	n := len(w.hosts)
	hit := make([][2]uint64, 0, n*n)
	sides := make([]bool, n+1)
	for i := range sides {
		sides[i] = r.IntN(2) == 0
	}
	direction := r.IntN(2) == 0
	pair := uint64(0) // with f.node, the only two that do not reach each other
	if f.kind == faultPartial && r.IntN(2) == 0 {
		pair = uint64(1 + r.IntN(n))
		w.restartBridge(&f, pair, r)
	}
	for a := uint64(1); a <= uint64(n); a++ {
		for b := uint64(1); b <= uint64(n); b++ {
			if a == b {
				continue
			}
			var cut bool
			switch f.kind {
			case faultIsolate:
				cut = a == f.node || b == f.node
			case faultSplit:
				cut = sides[a] != sides[b]
			case faultOneWay:
				cut = direction && a == f.node || !direction && b == f.node
			case faultPartial, faultClog:
				cut = r.IntN(4) == 0
				if pair != 0 {
					cut = a == f.node && b == pair || a == pair && b == f.node
				}
			}
			if cut {
				hit = append(hit, [2]uint64{a, b})
			}
		}
	}
	if f.kind == faultClog {
		for _, l := range hit {
			w.net.clog[l[0]][l[1]] = max(w.net.clog[l[0]][l[1]], w.now+int64(f.lasts))
		}
		return
	}
	for _, l := range hit {
		w.net.cut[l[0]][l[1]]++
	}
	w.after(f.lasts, func() {
		if w.healed {
			return
		}
		for _, l := range hit {
			w.net.cut[l[0]][l[1]]--
		}
	})
}

// restartBridge has, sometimes, the two be a leader and another node, and one restart that reaches
// both, when the other one has asked it for its vote for a while.
func (w *world) restartBridge(f *fault, pair uint64, r *rand.Rand) {
	g := w.someGroup(uint64(1+r.IntN(len(w.oracle.groups))), r)
	if g == nil || r.IntN(2) == 0 {
		return
	}
	f.node = g.p.h.id
	timeout := w.plan.config.electionTime()
	f.lasts = 4 * timeout
	w.after(w.between(timeout, 3*timeout), func() {
		for _, h := range w.hosts {
			if !w.healed && h.id != f.node && h.id != pair && h.proc != nil {
				h.crash(false)
				h.start(w.between(0, 50*time.Millisecond))
				return
			}
		}
	})
}
