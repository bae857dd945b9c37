package wal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/connectraft/connect/internal/vfs"
)

// preparedMax is how many segments are held ready. To fill one with zeros takes the disk as much
// time as to write it full, and appends suffer from it: one is made in advance at once, and more only
// while nobody appends. The others are files that compaction has set free, often several at once.
// Their old bytes are harmless: no frame of one segment validates in another, and every write
// covers whole sectors.
const preparedMax = 4

// While nothing was synced for idleTime, segments are made until so many are held ready.
const (
	preparedIdle = 3
	idleTime     = 100 * time.Millisecond
)

// take returns a prepared segment. It waits for one that is being prepared, and asks once more if
// there is none.
func (w *worker) take() (*segment, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for asked := false; len(w.mu.prepared) == 0; {
		switch {
		case w.mu.wanted || w.mu.busy:
			w.mu.changed.Wait()
		case asked:
			return nil, w.mu.failed
		case w.log.o.Inline:
			w.mu.Unlock()
			w.prepare()
			w.mu.Lock()
			asked = true
		default:
			w.mu.wanted, asked = true, true
			w.mu.changed.Broadcast()
		}
	}
	s := w.mu.prepared[0]
	w.mu.prepared = w.mu.prepared[1:]
	return s, nil
}

// takeAll returns the prepared segments. The worker has stopped.
func (w *worker) takeAll() []*segment {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.mu.prepared
	w.mu.prepared = nil
	return list
}

// prepareNow creates the next segment unless so many are there, and then the ballast.
func (w *worker) prepareNow(enough int) {
	w.mu.Lock()
	ready, id := len(w.mu.prepared) >= enough, w.mu.nextID
	w.mu.Unlock()
	if !ready {
		s, err := createSegment(w.log.o.FS, w.log.o.Dir, id, w.log.o.SegmentBytes)
		w.prepared(s, id, err)
		if err != nil {
			return
		}
	}
	w.keepBallast()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awaitIdleLocked()
}

// awaitIdleLocked has more segments made when nothing has been synced for idleTime. An attempt that
// fails is not made again before the log has asked for a segment. Inline there is no timer, and one
// segment is all there is in advance.
func (w *worker) awaitIdleLocked() {
	if w.log.o.Inline || w.mu.stopping || w.mu.idle != nil || len(w.mu.prepared) >= preparedIdle {
		return
	}
	before := w.log.syncs.Load()
	w.mu.idle = time.AfterFunc(idleTime, func() { w.lookIdle(before) })
}

// lookIdle asks for one more segment if nothing was synced since.
func (w *worker) lookIdle(before uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.idle = nil
	if w.log.syncs.Load() != before {
		w.awaitIdleLocked()
		return
	}
	w.mu.more = !w.mu.stopping
	w.mu.changed.Broadcast()
}

// prepared notes the outcome of an attempt to prepare a segment.
func (w *worker) prepared(s *segment, id uint64, err error) {
	w.mu.Lock()
	wasFull := w.fullLocked()
	if err == nil || len(w.mu.prepared) == 0 { // else nobody waits for this one
		w.mu.failed = err
	}
	if err == nil {
		w.mu.prepared = append(w.mu.prepared, s)
		w.mu.nextID = id + 1
	}
	isFull := w.fullLocked()
	w.scheduleRetryLocked(isFull)
	w.mu.Unlock()
	switch {
	case isFull && !wasFull:
		w.log.o.Logger.Warn("no room for the next segment", "segment", id, "error", err)
	case wasFull && !isFull:
		w.log.o.Logger.Info("room for the next segment again", "segment", id)
	case err != nil && !isFull:
		w.log.o.Logger.Warn("next segment not prepared", "segment", id, "error", err)
	}
}

// retire does away with a segment that no group needs: it becomes one that is held ready, or its
// file is removed.
func (w *worker) retire(s *segment) {
	w.mu.Lock()
	id, keep := w.mu.nextID, len(w.mu.prepared) < preparedMax
	w.mu.Unlock()
	names := []string{segmentName(s.id)}
	// Nobody may read from a file that is written anew, so the log's reference has to be the last.
	if keep && s.size == w.log.o.SegmentBytes && s.refs.CompareAndSwap(1, 0) {
		fresh, err := w.recycle(s, id)
		if err == nil {
			w.prepared(fresh, id, nil)
			return
		}
		w.log.o.Logger.Warn("segment not used again", "segment", s.id, "error", err)
		names = append(names, segmentName(id)) // the file may have got the name
		w.mu.Lock()
		w.mu.nextID = id + 1
		w.mu.Unlock()
	} else if err := s.release(); err != nil {
		w.log.o.Logger.Warn("segment not closed", "segment", s.id, "error", err)
	}
	for _, name := range names {
		if err := removeFile(w.log.o.FS, w.log.o.Dir, name); err != nil {
			w.log.o.Logger.Warn("segment not removed", "segment", s.id, "error", err)
			return
		}
	}
	w.log.o.Logger.Debug("segment removed", "segment", s.id)
}

// recycle gives the file of a segment the name of another one, durably. Until that is activated
// the file is nothing to recovery, under either name: under the old one all its entries are dead.
func (w *worker) recycle(s *segment, id uint64) (*segment, error) {
	fs, dir := w.log.o.FS, w.log.o.Dir
	if err := s.file.Close(); err != nil {
		return nil, err
	}
	err := fs.Rename(filepath.Join(dir, segmentName(s.id)), filepath.Join(dir, segmentName(id)))
	if err == nil {
		err = fs.SyncDir(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("wal: use segment %d for %d: %w", s.id, id, err)
	}
	fresh, err := openSegment(fs, dir, id, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	fresh.size = s.size
	w.log.o.Logger.Debug("segment used again", "segment", s.id, "as", id)
	return fresh, nil
}

func (w *worker) preparedBytes() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := int64(0)
	for _, s := range w.mu.prepared {
		n += s.size
	}
	return n
}

// scheduleRetryLocked asks for a segment again after a while if the disk is full. Inline there is
// no timer: every append asks.
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

// fullLocked says that the last attempt to prepare a segment found no space, or no file handle.
func (w *worker) fullLocked() bool {
	return len(w.mu.prepared) == 0 &&
		(errors.Is(w.mu.failed, vfs.ErrNoSpace) || errors.Is(w.mu.failed, vfs.ErrNoHandles))
}

// Full says that the last attempt to prepare a segment found no space, or no file handle. While it
// is true new commands should be refused; it turns false by itself when an attempt succeeds.
func (l *Log) Full() bool {
	l.worker.mu.Lock()
	defer l.worker.mu.Unlock()
	return l.worker.fullLocked()
}
