package wal

import (
	"fmt"
	"sync"
	"time"
)

// worker does what an append need not wait for: it prepares the next segment, writes superblocks
// and removes the files of segments. It is one goroutine, or with Options.Inline none: the work is
// then done by whoever asks for it.
//
// Segments go in the order in which they were asked for, oldest segment first, so a crash leaves
// no gap in the middle of the log.
type worker struct {
	log  *Log
	done sync.WaitGroup

	mu struct {
		sync.Mutex
		changed  *sync.Cond
		stopping bool
		// wanted says that a segment is to be prepared if there is none, more that another one is
		// to be, busy that work is being done.
		wanted, more, busy bool
		// prepared are segments ready for use, by ascending id, at most preparedMax.
		prepared []*segment
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
		// idle looks whether nothing is appended, so that there is time for more segments; nil if
		// it does not.
		idle *time.Timer
		// unballasted says that the ballast file has to be looked after.
		unballasted bool
	}
}

func newWorker(l *Log) *worker {
	w := &worker{log: l}
	w.mu.changed = sync.NewCond(&w.mu)
	return w
}

// start begins to work, with the segments that recovery found prepared.
func (w *worker) start(prepared []*segment, nextID uint64) {
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
	w.mu.wanted, w.mu.more = false, false
	if w.mu.retry != nil {
		w.mu.retry.Stop()
	}
	if w.mu.idle != nil {
		w.mu.idle.Stop()
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

// removeSegments asks for the removal of files, or their use for segments to come; the references
// of the log go over to the worker.
func (w *worker) removeSegments(list []*segment) {
	w.ask(func() { w.mu.remove = append(w.mu.remove, list...) })
}

func (w *worker) run() {
	for {
		w.mu.Lock()
		for !w.mu.wanted && !w.mu.more && w.mu.superblock == nil && len(w.mu.remove) == 0 {
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

// step does all of the work that waits and reports whether there was any. What goes may serve as
// the segment that is wanted, so it comes first.
func (w *worker) step() bool {
	w.mu.Lock()
	wanted, superblock, remove := w.mu.wanted, w.mu.superblock, w.mu.remove
	enough := 1
	if w.mu.more {
		wanted, enough = true, preparedIdle
	}
	w.mu.wanted, w.mu.more, w.mu.superblock, w.mu.remove = false, false, nil, nil
	work := wanted || superblock != nil || len(remove) > 0
	w.mu.busy = work
	w.mu.Unlock()
	if !work {
		return false
	}
	for _, s := range remove {
		w.retire(s)
	}
	if superblock != nil {
		w.putSuperblock(superblock)
	}
	if wanted {
		w.prepareNow(enough)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.busy = false
	w.mu.wanted = w.mu.wanted || len(remove) > 0 && !wanted && w.fullLocked()
	w.mu.changed.Broadcast()
	return true
}

// putSuperblock writes a superblock. One that fails leaves the older one, which is still true; the
// next one is tried again.
func (w *worker) putSuperblock(b []byte) {
	if err := w.log.super.write(b); err != nil {
		w.log.o.Logger.Warn("superblock not written", "error", fmt.Errorf("wal: %w", err))
	}
}
