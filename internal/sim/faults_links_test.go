package sim_test

import (
	"math/rand/v2"
)

func (w *world) injectLinks(f fault, r *rand.Rand) {
	n := len(w.hosts)
	hit := make([][2]uint64, 0, n*n)
	sides := make([]bool, n+1)
	for i := range sides {
		sides[i] = r.IntN(2) == 0
	}
	direction := r.IntN(2) == 0
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
