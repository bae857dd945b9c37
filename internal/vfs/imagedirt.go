package vfs

import (
	"fmt"
	"maps"
	"slices"
)

// staleSourcesMax bounds how many files are tried as a source of stale bytes.
const staleSourcesMax = 6

// zero keeps the sizes that pending writes gave their files without the bytes: of the newest write
// alone, and of all of them.
func (g *imageGenerator) zero(pending []*Op) {
	last := lastWrite(pending)
	if last < 0 {
		return
	}
	sized := make([]*Op, len(pending))
	grows := false
	for i, op := range pending {
		sized[i] = op
		if op.Kind == OpWrite {
			resized := *op
			resized.Kind, resized.Size, resized.Data = OpPreallocate, op.end(), nil
			sized[i] = &resized
			grows = grows || op.end() > g.disk.inodes[op.inode].durable.data.size
		}
	}
	if !grows {
		return
	}
	op := pending[last]
	g.emit(ClassZero, replaced(pending, last, sized[last]), func() string {
		return fmt.Sprintf("bytes of %v", op)
	})
	g.emit(ClassZero, sized, func() string { return "bytes of every write" })
}

// stale puts old bytes where the newest write should be: all of them, or all but its first sector.
func (g *imageGenerator) stale(pending []*Op) {
	last := lastWrite(pending)
	if last < 0 {
		return
	}
	op := pending[last]
	first := sectorsOf(op, g.policy.SectorBytes)[0]
	for source, bytes := range g.staleSources(op) {
		emit := func(data []byte, keeps string) {
			kept := replaced(pending, last, rewritten(op, data, op.Offset))
			g.emit(ClassStale, kept, func() string {
				return fmt.Sprintf("%v has bytes of source %d%s", op, source, keeps)
			})
		}
		emit(bytes, "")
		if n := len(first.Data); n < len(bytes) {
			emit(slices.Concat(first.Data, bytes[n:]), " behind its first sector")
		}
	}
}

// staleSources returns the bytes of removed and other files at the place of a write, and of its
// own file one and two sectors before; sources of zeros alone are left out.
func (g *imageGenerator) staleSources(op *Op) [][]byte {
	var sources [][]byte
	add := func(data *content, off int64) {
		bytes := make([]byte, len(op.Data))
		if off < 0 || len(sources) == staleSourcesMax {
			return
		}
		if data.readAt(bytes, off) > 0 && !allZero(bytes) {
			sources = append(sources, bytes)
		}
	}
	for i := range g.disk.graveyard {
		add(&g.disk.graveyard[i], op.Offset)
	}
	own := &g.disk.inodes[op.inode].live.data
	for back := range int64(2) {
		add(own, op.Offset-(back+1)*int64(g.policy.SectorBytes))
	}
	add(own, op.Offset-int64(len(op.Data)))
	for _, id := range slices.Sorted(maps.Keys(g.disk.inodes)) {
		if n := g.disk.inodes[id]; !n.isDir && id != op.inode && n.live.links > 0 {
			add(&n.live.data, op.Offset)
		}
	}
	return sources
}

// garbage spoils one sector of the newest write: its first, middle or last one, with noise or with
// zeros, while its other sectors arrived or did not.
func (g *imageGenerator) garbage(pending []*Op) {
	last := lastWrite(pending)
	if last < 0 {
		return
	}
	op := pending[last]
	sectors := sectorsOf(op, g.policy.SectorBytes)
	indexes := []int{0, len(sectors) / 2, len(sectors) - 1}
	for _, i := range slices.Compact(indexes) {
		noise := rewritten(op, g.noise(len(sectors[i].Data)), sectors[i].Offset)
		zeros := rewritten(op, make([]byte, len(sectors[i].Data)), sectors[i].Offset)
		detail := func() string { return fmt.Sprintf("%v in sector %d", op, i) }
		g.emit(ClassGarbage, replaced(pending, last, op, noise), detail)
		g.emit(ClassGarbage, replaced(pending, last, noise), detail)
		g.emit(ClassGarbage, replaced(pending, last, op, zeros), detail)
	}
}

func (g *imageGenerator) noise(n int) []byte {
	bytes := make([]byte, n)
	for i := range bytes {
		bytes[i] = byte(g.rng.Uint32())
	}
	return bytes
}

// sharedSector spoils the whole sector in which the newest write begins, with what was durable
// in it before the write.
func (g *imageGenerator) sharedSector(pending []*Op) {
	last := lastWrite(pending)
	if last < 0 || g.stopped {
		return
	}
	op := pending[last]
	sector := int64(g.policy.SectorBytes)
	from := op.Offset / sector * sector
	if from == op.Offset {
		return
	}
	spoilt := rewritten(op, g.noise(int(sector)), from)
	for _, kept := range [][]*Op{{spoilt}, replaced(pending, last, op, spoilt)} {
		image := Image{
			FS: newMem(g.disk.crash(kept)), Class: ClassSharedSector,
			Lost:   &LostRange{Name: op.Name, From: from, To: op.Offset},
			detail: func() string { return op.String() },
		}
		if g.stopped = !g.yield(image); g.stopped {
			return
		}
	}
}
