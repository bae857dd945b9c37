package wal_test

import (
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
)

var imagesMax = flag.Int("wal.images", crashImages,
	"how many crash images the enumeration checks, besides those of recoveries; 0 is without limit")

// crashImages is how many distinct images every run checks at least.
const crashImages = 20_000

var crashSeeds = flag.Int("wal.seeds", crashSeedsDefault, "how many workloads are enumerated")

const crashSeedsDefault = 8

// TestCrashEnumeration crashes random workloads at every operation in every way the file system
// model knows, and holds each image against the history of its workload.
func TestCrashEnumeration(t *testing.T) {
	seen, ran, crossed := newImageSet(), 0, map[string]int{}
	for seed := range uint64(*crashSeeds) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			w := newWorkload(t, seed)
			w.runLong()
			w.close()
			for _, what := range crossings {
				crossed[what] += w.did[what]
			}
			enumerate(t, w, seen, *imagesMax / *crashSeeds)
			ran++
		})
	}
	t.Logf("%d distinct images checked, %d of them of crashes during recovery",
		seen.len(), seen.recoveries())
	if ran < crashSeedsDefault || t.Failed() {
		return
	}
	for _, what := range crossings {
		if crossed[what] < 5 {
			t.Errorf("%d times %s in all workloads: too few", crossed[what], what)
		}
	}
	if *imagesMax == crashImages && seen.len() < crashImages {
		t.Errorf("%d distinct images, want %d", seen.len(), crashImages)
	}
}

// TestCrashEnumerationWithWorker is the same with the goroutine that prepares segments, so that its
// operations come between those of the appends.
func TestCrashEnumerationWithWorker(t *testing.T) {
	seen := newImageSet()
	w := unopenedWorkload(t, 100)
	w.options.Inline = false
	w.open()
	w.runLong()
	w.close()
	enumerate(t, w, seen, *imagesMax / *crashSeeds / 2)
	t.Logf("%d distinct images checked, %d of them of crashes during recovery",
		seen.len(), seen.recoveries())
}

// runLong runs a workload until it has made enough segments, and has let enough of them go.
func (w *workload) runLong() {
	w.t.Helper()
	w.run(60)
	for range 200 {
		if w.segmentsMade() >= 5 && w.segmentsFreed() >= 3 {
			return
		}
		w.step()
	}
	w.t.Fatalf("%d segments were made and %d became free: too few", w.segmentsMade(),
		w.segmentsFreed())
}

func (w *workload) segmentsMade() int {
	return w.countOps(func(op *vfs.Op) bool {
		return op.Kind == vfs.OpRename && strings.HasSuffix(op.NewName, ".wal")
	})
}

// segmentsFreed counts the segments that were removed, or used again under another name.
func (w *workload) segmentsFreed() int {
	return w.countOps(func(op *vfs.Op) bool {
		return op.Kind&(vfs.OpRemove|vfs.OpRename) != 0 && strings.HasSuffix(op.Name, ".wal")
	})
}

func (w *workload) countOps(is func(*vfs.Op) bool) (n int) {
	for position := range w.recording.Len() {
		if is(w.recording.Op(position)) {
			n++
		}
	}
	return n
}

// crossings are what the workloads together must do a few times each, or they prove nothing.
var crossings = []string{
	"suffix overwrite", "snapshot mark", "compact", "remove group", "close", "kill",
}

// imageSet counts distinct images over all workloads.
type imageSet struct {
	mu       sync.Mutex
	images   map[uint64]bool
	recovery int
}

func newImageSet() *imageSet { return &imageSet{images: map[uint64]bool{}} }

func (s *imageSet) add(sum uint64, duringRecovery bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.images[sum] {
		s.images[sum] = true
		if duringRecovery {
			s.recovery++
		}
	}
}

func (s *imageSet) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.images)
}

func (s *imageSet) recoveries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recovery
}

var imagePolicy = vfs.ImagePolicy{
	Seed: 1, Samples: 8, CutsMax: 24, PendingMax: 12, Edges: frameEdges,
}

// recoveryPolicy is for crashes inside of recovery, of which there are very many.
var recoveryPolicy = vfs.ImagePolicy{
	Seed: 2, SubsetMax: 3, Samples: 2, CutsMax: 5, PendingMax: 3, Edges: frameEdges,
}

// recoveryEvery is how many images pass between two whose recovery is crashed as well, at some 400
// images each. Without limit there are ten times as many.
const recoveryEvery = 400

// frameEdges finds the borders of frames in a write: see frame.go for the layout.
func frameEdges(op *vfs.Op) []int {
	const headerBytes, entryHeaderBytes = 112, 16
	var edges []int
	for at := 0; at+8 <= len(op.Data); at += 8 {
		if op.Data[at+6] == 0xDA && op.Data[at+7] == 0xC0 {
			edges = append(edges, at-1, at, at+8, at+headerBytes-1, at+headerBytes,
				at+headerBytes+entryHeaderBytes)
		}
	}
	return edges
}

// job is an image to check, of a crash behind position operations.
type job struct {
	image    vfs.Image
	position int
	// deep asks to crash the recovery of this image too.
	deep bool
}

// enumerate checks the images of all positions, at most limit of them (0 is all), spread evenly.
func enumerate(t *testing.T, w *workload, seen *imageSet, limit int) {
	t.Helper()
	w.recording.Stop()
	total, every := 0, recoveryEvery/10
	if limit > 0 {
		every = recoveryEvery
		w.eachImage(func(job) bool { total++; return true })
	}
	pool := startCheckers(t, w, seen)
	defer pool.wait()
	n, picked := 0, 0
	w.eachImage(func(j job) bool {
		n++
		if limit > 0 && limit < total && n*limit/total == (n-1)*limit/total {
			return true
		}
		picked++
		j.deep = picked%every == 0
		return pool.put(j)
	})
}

// checkers are two goroutines that check images until one is wrong.
type checkers struct {
	jobs   chan job
	failed chan struct{}
	done   sync.WaitGroup
}

func startCheckers(t *testing.T, w *workload, seen *imageSet) *checkers {
	c := &checkers{jobs: make(chan job), failed: make(chan struct{})}
	var once sync.Once
	for range 2 {
		c.done.Go(func() {
			for j := range c.jobs {
				if err := w.check(j, seen); err != nil {
					once.Do(func() {
						t.Errorf("after %d images: crash behind operation %d (%s), image %v: %v",
							seen.len(), j.position, w.opBefore(j.position), j.image, err)
						close(c.failed)
					})
					return
				}
			}
		})
	}
	return c
}

// put gives an image to a checker; false says that one was wrong.
func (c *checkers) put(j job) bool {
	select {
	case c.jobs <- j:
		return true
	case <-c.failed:
		return false
	}
}

func (c *checkers) wait() {
	close(c.jobs)
	c.done.Wait()
}

// eachImage yields the images that differ from all others of the same bounds.
func (w *workload) eachImage(yield func(job) bool) {
	type key struct {
		sum      uint64
		from, to int
	}
	done := map[key]bool{}
	for replay := w.recording.Replay(); ; {
		from, to := w.history.bounds(replay.Position())
		for image := range replay.CrashImages(imagePolicy) {
			k := key{image.FS.Fingerprint(), from, to}
			if done[k] {
				continue
			}
			done[k] = true
			if !yield(job{image: image, position: replay.Position()}) {
				return
			}
		}
		if !replay.Next() {
			return
		}
	}
}

func (w *workload) opBefore(position int) string {
	if position == 0 {
		return "none"
	}
	what := "between calls"
	for _, c := range w.history.calls {
		if c.start < position && position <= c.end {
			what = c.what
		}
	}
	return fmt.Sprintf("%v, in %s", w.recording.Op(position-1), what)
}
