package vfs

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// imageGenerator yields the images of one moment, class by class. Every image is the durable state
// plus a list of operations, some of them changed on their way to the disk.
type imageGenerator struct {
	disk   *disk
	policy ImagePolicy
	rng    *rand.Rand
	yield  func(Image) bool
	// stopped is set once the consumer wants no more.
	stopped bool
}

func (g *imageGenerator) run() {
	// The descriptions of images outlive this moment, and a later sync edits the disk's own list.
	pending := slices.Clone(g.disk.pending)
	for _, class := range []struct {
		class Class
		make  func([]*Op)
	}{
		{ClassNone, g.none}, {ClassAll, g.all}, {ClassPrefix, g.prefixes}, {ClassMissing, g.missing},
		{ClassTorn, g.torn}, {ClassZero, g.zero}, {ClassStale, g.stale},
		{ClassGarbage, g.garbage}, {ClassRename, g.renames}, {ClassSharedSector, g.sharedSector},
	} {
		if g.policy.Classes&class.class != 0 && !g.stopped {
			class.make(pending)
		}
	}
}

func (g *imageGenerator) emit(class Class, kept []*Op, detail func() string) {
	if g.stopped {
		return
	}
	image := Image{FS: newMem(g.disk.crash(kept)), Class: class, detail: detail}
	g.stopped = !g.yield(image)
}

func (g *imageGenerator) none([]*Op) { g.emit(ClassNone, nil, nil) }

func (g *imageGenerator) all(pending []*Op) { g.emit(ClassAll, pending, nil) }

// varied is the first index of the operations that are varied one by one.
func (g *imageGenerator) varied(pending []*Op) int {
	return max(0, len(pending)-g.policy.PendingMax)
}

func (g *imageGenerator) prefixes(pending []*Op) {
	for n := g.varied(pending) + 1; n < len(pending); n++ {
		g.emit(ClassPrefix, pending[:n], func() string {
			return fmt.Sprintf("%d of %d, next %v", n, len(pending), pending[n])
		})
	}
}

func (g *imageGenerator) missing(pending []*Op) {
	if n := len(pending); n <= g.policy.SubsetMax {
		for mask := uint64(1); mask+1 < 1<<n; mask++ {
			g.subset(pending, func(i int) bool { return mask&(1<<i) != 0 })
		}
		return
	}
	for i := g.varied(pending); i < len(pending); i++ {
		g.subset(pending, func(j int) bool { return j != i })
		g.subset(pending, func(j int) bool { return j == i })
	}
	for range g.policy.Samples {
		keep := make([]bool, len(pending))
		for i := range keep {
			keep[i] = g.rng.IntN(2) == 0
		}
		g.subset(pending, func(i int) bool { return keep[i] })
	}
}

func (g *imageGenerator) subset(pending []*Op, keep func(int) bool) {
	var kept []*Op
	for i, op := range pending {
		if keep(i) {
			kept = append(kept, op)
		}
	}
	g.emit(ClassMissing, kept, func() string {
		return fmt.Sprintf("kept %v of %d", kept, len(pending))
	})
}

func (g *imageGenerator) renames(pending []*Op) {
	for i, op := range pending {
		if op.Kind != OpRename {
			continue
		}
		detail := func() string { return op.String() }
		g.emit(ClassRename, []*Op{op}, detail)
		g.emit(ClassRename, slices.Delete(slices.Clone(pending), i, i+1), detail)
	}
}

// lastWrite returns the index of the newest pending write, or -1.
func lastWrite(pending []*Op) int {
	for i, op := range slices.Backward(pending) {
		if op.Kind == OpWrite {
			return i
		}
	}
	return -1
}

// replaced is pending with one operation changed into others.
func replaced(pending []*Op, index int, by ...*Op) []*Op {
	return slices.Concat(pending[:index], by, pending[index+1:])
}

// rewritten is a write with other bytes.
func rewritten(op *Op, data []byte, off int64) *Op {
	changed := *op
	changed.Data, changed.Offset = data, off
	return &changed
}

// cutWrite is a write that got no further than its first n bytes.
func cutWrite(op *Op, n int) *Op { return rewritten(op, op.Data[:n:n], op.Offset) }

// sectorsOf splits a write at the sector borders of its file.
func sectorsOf(op *Op, sectorBytes int) []*Op {
	var parts []*Op
	for from := 0; from < len(op.Data); {
		at := op.Offset + int64(from)
		to := min(len(op.Data), from+sectorBytes-int(at%int64(sectorBytes)))
		parts = append(parts, rewritten(op, op.Data[from:to:to], at))
		from = to
	}
	return parts
}
