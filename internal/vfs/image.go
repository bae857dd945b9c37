package vfs

import (
	"fmt"
	"iter"
	"math/rand/v2"
)

// Class says what a crash did to the pending operations in an image.
type Class uint16

// The classes. A policy may ask for a union of them.
const (
	// ClassNone keeps nothing that was pending.
	ClassNone Class = 1 << iota
	// ClassAll keeps everything.
	ClassAll
	// ClassPrefix keeps the oldest operations.
	ClassPrefix
	// ClassMissing keeps any subset: every one of few operations; of many, each single one missing,
	// each one alone, and a seeded sample.
	ClassMissing
	// ClassTorn keeps a part of one write: its first bytes, or any subset of its sectors.
	ClassTorn
	// ClassZero keeps the size that a write gave a file, and zeros for its bytes.
	ClassZero
	// ClassStale fills a write with bytes of removed files, of other files, or of another place in
	// the same file: recycled blocks.
	ClassStale
	// ClassGarbage has noise, or zeros, in one sector of the last write.
	ClassGarbage
	// ClassRename keeps one rename without anything else, and everything else without it.
	ClassRename
	// ClassSharedSector has noise in the whole first sector of the last write, with the durable bytes
	// before it: a disk that is not power-safe. It is made only when it is asked for by name.
	ClassSharedSector
)

// ClassDefault is every class that a power-safe disk may show.
const ClassDefault = ClassSharedSector - 1

var classNames = []string{
	"none", "all", "prefix", "missing", "torn", "zero", "stale", "garbage", "rename", "shared sector",
}

func (c Class) String() string {
	for i, name := range classNames {
		if c == 1<<i {
			return name
		}
	}
	return fmt.Sprintf("classes %#x", uint16(c))
}

// ImagePolicy chooses the images of one moment. The zero value is a thorough one.
type ImagePolicy struct {
	// Seed feeds every sample; equal seeds give equal images in equal order.
	Seed uint64
	// Classes is the union of the wanted classes; zero is ClassDefault.
	Classes Class
	// SubsetMax is how many pending operations get all their subsets; zero is 6.
	SubsetMax int
	// Samples is how many subsets, of operations or of sectors, are drawn beyond that; zero is 16.
	Samples int
	// PendingMax bounds how many of the newest pending operations are varied one by one; zero is 32.
	PendingMax int
	// CutsMax bounds the cuts of one torn write; zero is 48. The first and the last stay.
	CutsMax int
	// SectorBytes is the unit that the disk writes as a whole; zero is 512.
	SectorBytes int
	// Edges gives places within the bytes of a write where to tear it, such as the borders of a
	// header. Places outside of the write are ignored. Nil is none.
	Edges func(*Op) []int
}

func (p ImagePolicy) withDefaults() ImagePolicy {
	for _, field := range []struct {
		value *int
		def   int
	}{
		{&p.SubsetMax, 6}, {&p.Samples, 16}, {&p.PendingMax, 32}, {&p.CutsMax, 48},
		{&p.SectorBytes, 512},
	} {
		if *field.value == 0 {
			*field.value = field.def
		}
	}
	if p.Classes == 0 {
		p.Classes = ClassDefault
	}
	return p
}

// Image is what one crash may have left. Images of one moment may be equal: compare fingerprints.
type Image struct {
	// FS is the file system as the next process finds it: all of it durable, no locks, no faults.
	FS *Mem
	// Class is what was done to the pending operations.
	Class Class
	// Lost is the durable range that the crash destroyed; only ClassSharedSector has one.
	Lost *LostRange

	detail func() string
}

// LostRange is durable bytes that a crash destroyed.
type LostRange struct {
	Name     string
	From, To int64
}

// String tells the image apart from the others of its moment.
func (i Image) String() string {
	if i.detail == nil {
		return i.Class.String()
	}
	return i.Class.String() + ": " + i.detail()
}

// CrashImages yields what a crash at this moment may leave. The file system may go on meanwhile;
// the images are of the moment at which the iteration starts.
func (m *Mem) CrashImages(policy ImagePolicy) iter.Seq[Image] {
	return func(yield func(Image) bool) {
		m.mu.Lock()
		d := m.disk.clone()
		m.mu.Unlock()
		imagesOf(d, policy, yield)
	}
}

// CrashImages yields what a crash at this position may leave. Next must not be called before the
// iteration ends; the images themselves are independent and may be used from any goroutine.
func (r *Replay) CrashImages(policy ImagePolicy) iter.Seq[Image] {
	return func(yield func(Image) bool) { imagesOf(r.disk, policy, yield) }
}

// Crash returns one image of this moment, drawn by the seed: each pending operation is kept or
// lost, and the last write that is kept may be torn.
func (m *Mem) Crash(seed uint64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	rng := rand.New(rand.NewPCG(seed, m.disk.seq))
	keepPercent := []int{0, 50, 90, 100}[rng.IntN(4)]
	var kept []*Op
	for _, op := range m.disk.pending {
		if rng.IntN(100) < keepPercent {
			kept = append(kept, op)
		}
	}
	if last := len(kept) - 1; last >= 0 && kept[last].Kind == OpWrite && rng.IntN(2) == 0 {
		kept[last] = cutWrite(kept[last], rng.IntN(len(kept[last].Data)))
	}
	return newMem(m.disk.crash(kept))
}

func imagesOf(d *disk, policy ImagePolicy, yield func(Image) bool) {
	policy = policy.withDefaults()
	g := &imageGenerator{
		disk: d, policy: policy, yield: yield,
		rng: rand.New(rand.NewPCG(policy.Seed, d.seq)),
	}
	g.run()
}
