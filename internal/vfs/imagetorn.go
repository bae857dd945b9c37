package vfs

import (
	"fmt"
	"maps"
	"slices"
)

// torn tears the newest pending write at every cut and in every choice of its sectors, with
// everything else kept; and tears it alone, and each older write in the middle, because a disk
// may do the pending writes in any order.
func (g *imageGenerator) torn(pending []*Op) {
	last := lastWrite(pending)
	for i := g.varied(pending); i < last; i++ {
		if op := pending[i]; op.Kind == OpWrite {
			g.tear(pending, i, len(op.Data)/2)
		}
	}
	if last < 0 {
		return
	}
	op := pending[last]
	for _, cut := range g.cuts(op) {
		g.tear(pending, last, cut)
	}
	if len(pending) > 1 {
		g.tear(pending[last:last+1], 0, len(op.Data)/2)
	}
	g.tearSectors(pending, last)
}

func (g *imageGenerator) tear(pending []*Op, index, cut int) {
	op := pending[index]
	g.emit(ClassTorn, replaced(pending, index, cutWrite(op, cut)), func() string {
		return fmt.Sprintf("%v cut at %d", op, cut)
	})
}

func (g *imageGenerator) tearSectors(pending []*Op, index int) {
	op := pending[index]
	sectors := sectorsOf(op, g.policy.SectorBytes)
	emit := func(keep func(int) bool) {
		var kept []*Op
		var mask []byte
		for i, sector := range sectors {
			if keep(i) {
				kept, mask = append(kept, sector), append(mask, '1')
			} else {
				mask = append(mask, '0')
			}
		}
		g.emit(ClassTorn, replaced(pending, index, kept...), func() string {
			return fmt.Sprintf("%v sectors %s", op, mask)
		})
	}
	if n := len(sectors); n <= g.policy.SubsetMax {
		for mask := uint64(1); mask+1 < 1<<n; mask++ {
			emit(func(i int) bool { return mask&(1<<i) != 0 })
		}
		return
	}
	for _, i := range []int{0, len(sectors) / 2, len(sectors) - 1} {
		emit(func(j int) bool { return j != i })
	}
	for range g.policy.Samples {
		keep := make([]bool, len(sectors))
		for i := range keep {
			keep[i] = g.rng.IntN(2) == 0
		}
		emit(func(i int) bool { return keep[i] })
	}
}

// cuts are the lengths at which a write is torn: 0, 1, the edges that the caller names, the sector
// borders and the last byte.
func (g *imageGenerator) cuts(op *Op) []int {
	set := map[int]bool{0: true, 1: true, len(op.Data) - 1: true}
	if g.policy.Edges != nil {
		for _, edge := range g.policy.Edges(op) {
			set[edge] = true
		}
	}
	for _, sector := range sectorsOf(op, g.policy.SectorBytes) {
		set[int(sector.Offset-op.Offset)] = true
	}
	maps.DeleteFunc(set, func(cut int, _ bool) bool { return cut < 0 || cut >= len(op.Data) })
	cuts := slices.Sorted(maps.Keys(set))
	for len(cuts) > g.policy.CutsMax {
		drop := 2 + g.rng.IntN(len(cuts)-3)
		cuts = slices.Delete(cuts, drop, drop+1)
	}
	return cuts
}
