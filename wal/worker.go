package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

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
		// wanted says that a segment is to be prepared, busy that work is being done.
		wanted, busy bool
		prepared     *segment
		// nextID is the id of the next segment that is prepared. It moves on with every segment,
		// so a request that comes late never makes a file anew that is in use.
		nextID uint64
		// failed is why the last attempt to prepare did not succeed.
		failed error
		// superblock is the newest one to write, nil for none.
		superblock []byte
		remove     []*segment
		// retry asks for the next segment again while the disk is full; nil if it is not.
		retry *time.Timer
		// unballasted says that the ballast file has to be looked after.
		unballasted bool
	}
}

func newWorker(l *Log) *worker {
	w := &worker{log: l}
	w.mu.changed = sync.NewCond(&w.mu)
	return w
}

// start begins to work, with a segment that recovery found prepared or nil.
func (w *worker) start(prepared *segment, nextID uint64) {
	w.mu.prepared, w.mu.nextID = prepared, nextID
	w.mu.unballasted = true
	if !w.log.o.Inline {
		w.done.Go(w.run)
	}
}

// stop finishes what was asked for and ends the goroutine.
func (w *worker) stop() error {
	w.mu.Lock()
	w.mu.stopping = true
	w.mu.wanted = false
	if w.mu.retry != nil {
		w.mu.retry.Stop()
	}
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
func (w *worker) prepare() { w.ask(func() { w.mu.wanted = true }) }

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
	if w.mu.prepared == nil && !w.mu.busy {
		w.mu.wanted = true
		w.mu.changed.Broadcast()
	}
	w.mu.Unlock()
	if w.log.o.Inline {
		for w.step() {
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.mu.prepared == nil && (w.mu.wanted || w.mu.busy) {
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

func (w *worker) run() {
	for {
		w.mu.Lock()
		for !w.mu.wanted && w.mu.superblock == nil && len(w.mu.remove) == 0 {
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
	wanted, superblock, remove := w.mu.wanted, w.mu.superblock, w.mu.remove
	w.mu.wanted, w.mu.superblock, w.mu.remove = false, nil, nil
	work := wanted || superblock != nil || len(remove) > 0
	w.mu.busy = work
	w.mu.Unlock()
	if !work {
		return false
	}
	for _, s := range remove {
		w.removeSegment(s)
	}
	if superblock != nil {
		w.putSuperblock(superblock)
	}
	if wanted {
		w.prepareNow()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.busy = false
	if len(remove) > 0 && !wanted && w.fullLocked() {
		w.mu.wanted = true
	}
	w.mu.changed.Broadcast()
	return true
}

// prepareNow creates the next segment, and then the ballast if it is not there.
func (w *worker) prepareNow() {
	w.mu.Lock()
	prepared, id := w.mu.prepared, w.mu.nextID
	w.mu.Unlock()
	if prepared != nil {
		w.keepBallast()
		return
	}
	s, err := createSegment(w.log.o.FS, w.log.o.Dir, id, w.log.o.SegmentBytes)
	w.mu.Lock()
	wasFull := w.fullLocked()
	w.mu.prepared, w.mu.failed = s, err
	if err == nil {
		w.mu.nextID++
	}
	isFull := w.fullLocked()
	w.scheduleRetryLocked(isFull)
	w.mu.Unlock()
	switch {
	case isFull && !wasFull:
		w.log.o.Logger.Warn("disk is full, next segment not prepared", "segment", id, "error", err)
	case wasFull && !isFull:
		w.log.o.Logger.Info("disk has space again", "segment", id)
	case err != nil && !isFull:
		w.log.o.Logger.Warn("next segment not prepared", "segment", id, "error", err)
	}
	if err == nil {
		w.keepBallast()
	}
}

// scheduleRetryLocked asks for a segment again after a while if the disk is full. Inline there is
// no timer: every append that needs the segment asks.
func (w *worker) scheduleRetryLocked(full bool) {
	if w.mu.retry != nil {
		w.mu.retry.Stop()
		w.mu.retry = nil
	}
	if !full || w.log.o.Inline || w.mu.stopping {
		return
	}
	w.mu.retry = time.AfterFunc(fullRetry, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.fullLocked() && !w.mu.stopping {
			w.mu.wanted = true
			w.mu.changed.Broadcast()
		}
	})
}

// missBallast says that the ballast was given up.
func (w *worker) missBallast() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.unballasted = true
}

func (w *worker) keepBallast() {
	w.mu.Lock()
	missing := w.mu.unballasted
	w.mu.Unlock()
	if !missing {
		return
	}
	err := w.log.keepBallast()
	if err != nil {
		w.log.o.Logger.Warn("no ballast", "error", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.unballasted = err != nil
}

// fullLocked says that the last attempt to prepare a segment found no space.
func (w *worker) fullLocked() bool {
	return w.mu.prepared == nil && errors.Is(w.mu.failed, vfs.ErrNoSpace)
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
	l.worker.mu.Lock()
	defer l.worker.mu.Unlock()
	return l.worker.fullLocked()
}
