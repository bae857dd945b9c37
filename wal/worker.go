package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/connectraft/connect/internal/vfs"
)

// worker does what an append need not wait for: it prepares the next segment, writes superblocks
// and removes the files of segments. It is one goroutine, or with Options.Inline none: the work is
// then done by whoever asks for it.
//
// Removals run in the order in which they were asked for, oldest segment first, so a crash leaves
// no gap in the middle of the log.
type worker struct {
	log  *Log
	done sync.WaitGroup

	mu struct {
		sync.Mutex
		changed  *sync.Cond
		stopping bool
		// wanted is the id of the segment to prepare, 0 for none; busy says that it is being done.
		wanted     uint64
		wantedSize int64
		busy       bool
		prepared   *segment
		// failed is why the last attempt to prepare did not succeed.
		failed error
		// superblock is the newest one to write, nil for none.
		superblock []byte
		remove     []*segment
	}
}

func newWorker(l *Log) *worker {
	w := &worker{log: l}
	w.mu.changed = sync.NewCond(&w.mu)
	return w
}

// start begins to work, with a segment that recovery found prepared or nil.
func (w *worker) start(prepared *segment) {
	w.mu.prepared = prepared
	if !w.log.o.Inline {
		w.done.Go(w.run)
	}
}

// stop finishes what was asked for and ends the goroutine.
func (w *worker) stop() error {
	w.mu.Lock()
	w.mu.stopping = true
	w.mu.wanted = 0
	w.mu.changed.Broadcast()
	w.mu.Unlock()
	w.done.Wait()
	return nil
}

// ask puts a job in with set, which runs under mu, and lets it be done.
func (w *worker) ask(set func()) {
	w.mu.Lock()
	set()
	w.mu.changed.Broadcast()
	w.mu.Unlock()
	if w.log.o.Inline {
		for w.step() {
		}
	}
}

// prepare asks for a segment in advance.
func (w *worker) prepare(id uint64, size int64) {
	w.ask(func() { w.mu.wanted, w.mu.wantedSize = id, size })
}

// writeSuperblock asks for a superblock; one that waits still is replaced by the newer one.
func (w *worker) writeSuperblock(b []byte) { w.ask(func() { w.mu.superblock = b }) }

// removeSegments asks for the removal of files; the references of the log go over to the worker.
func (w *worker) removeSegments(list []*segment) {
	w.ask(func() { w.mu.remove = append(w.mu.remove, list...) })
}

// take returns the prepared segment. It waits for one that is being prepared, and asks again if
// the last attempt failed.
func (w *worker) take() (*segment, error) {
	w.mu.Lock()
	if w.mu.prepared == nil && w.mu.wanted == 0 && !w.mu.busy {
		w.mu.wanted, w.mu.wantedSize = w.log.nextID, w.log.o.SegmentBytes
		w.mu.changed.Broadcast()
	}
	w.mu.Unlock()
	if w.log.o.Inline {
		for w.step() {
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.mu.prepared == nil && (w.mu.wanted != 0 || w.mu.busy) {
		w.mu.changed.Wait()
	}
	s := w.mu.prepared
	w.mu.prepared = nil
	if s == nil {
		return nil, w.mu.failed
	}
	return s, nil
}

// takePrepared returns the prepared segment if there is one. The worker has stopped.
func (w *worker) takePrepared() *segment {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.mu.prepared
	w.mu.prepared = nil
	return s
}

func (w *worker) hasPrepared() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.prepared != nil
}

// idle waits until everything asked for is done.
func (w *worker) idle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.mu.busy || w.mu.wanted != 0 || w.mu.superblock != nil || len(w.mu.remove) > 0 {
		w.mu.changed.Wait()
	}
}

func (w *worker) run() {
	for {
		w.mu.Lock()
		for w.mu.wanted == 0 && w.mu.superblock == nil && len(w.mu.remove) == 0 {
			if w.mu.stopping {
				w.mu.Unlock()
				return
			}
			w.mu.changed.Wait()
		}
		w.mu.Unlock()
		w.step()
	}
}

// step does all of the work that waits and reports whether there was any.
func (w *worker) step() bool {
	w.mu.Lock()
	id, size, superblock, remove := w.mu.wanted, w.mu.wantedSize, w.mu.superblock, w.mu.remove
	w.mu.wanted, w.mu.superblock, w.mu.remove = 0, nil, nil
	work := id != 0 || superblock != nil || len(remove) > 0
	w.mu.busy = work
	w.mu.Unlock()
	if !work {
		return false
	}
	var s *segment
	var err error
	for _, r := range remove {
		w.removeSegment(r)
	}
	if superblock != nil {
		w.putSuperblock(superblock)
	}
	if id != 0 {
		s, err = createSegment(w.log.o.FS, w.log.o.Dir, id, size)
		if err != nil {
			w.log.o.Logger.Warn("next segment not prepared", "segment", id, "error", err)
		}
	}
	w.mu.Lock()
	if s != nil {
		w.mu.prepared = s
	}
	if id != 0 {
		w.mu.failed = err
	}
	w.mu.busy = false
	w.mu.changed.Broadcast()
	w.mu.Unlock()
	return true
}

func (w *worker) removeSegment(s *segment) {
	err := errors.Join(s.release(),
		ignoreMissing(w.log.o.FS.Remove(filepath.Join(w.log.o.Dir, segmentName(s.id)))))
	if err != nil {
		w.log.o.Logger.Warn("segment not removed", "segment", s.id, "error", err)
		return
	}
	w.log.o.Logger.Debug("segment removed", "segment", s.id)
}

// putSuperblock writes a superblock. One that fails leaves the older one, which is still true; the
// next one is tried again.
func (w *worker) putSuperblock(b []byte) {
	if err := w.log.super.write(b); err != nil {
		w.log.o.Logger.Warn("superblock not written", "error", fmt.Errorf("wal: %w", err))
	}
}

func (w *worker) preparedBytes() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.prepared == nil {
		return 0
	}
	return w.mu.prepared.size
}

// Full says that the last attempt to prepare a segment found no space. While it is true new
// commands should be refused; it turns false by itself when an attempt succeeds.
func (l *Log) Full() bool {
	w := l.worker
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.prepared == nil && errors.Is(w.mu.failed, vfs.ErrNoSpace)
}
