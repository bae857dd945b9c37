package wal

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Log is the write-ahead log of one process. Its methods may be called from any goroutine; those
// that write (Append, Compact, RemoveGroup, Mend, Unfence, Close) run one after the other.
//
// A write is encoded, written and synced in the goroutine of its caller, which is then called the
// appender. The only goroutine of the log is the worker, which prepares segments, writes the
// superblock and removes files.
type Log struct {
	o        Options
	identity Identity
	lock     io.Closer
	worker   *worker

	// appender serialises the calls that write. It is held across I/O: that is its purpose.
	appender sync.Mutex

	groups struct {
		sync.RWMutex
		byID map[uint64]*Group
	}
	segs struct {
		sync.RWMutex
		// list has the segments that the log consists of, oldest first; the last one is active.
		list []*segment
	}
	// failed is the first error of a write or a sync.
	failed atomic.Pointer[error]
	closed atomic.Bool
	// syncStarted is when the append or sync in flight began, in nanoseconds of Options.Now; 0: none is.
	syncStarted atomic.Int64
	syncs       atomic.Uint64
	syncNanos   atomic.Int64
	rotations   atomic.Uint64

	// What follows belongs to the appender.

	active *segment
	// next is a prepared segment that a rotation took and did not come to use.
	next *segment
	// durable is up to where the active segment is synced; active.end is where the next write goes.
	durable  int64
	sequence uint64 // of the next frame
	round    uint64 // counts appends, see tip
	attempt  uint64 // counts attempts to write what is staged
	staged   []stagedFrame
	buf      buffer
	cache    cache
	super    superState
}

// Identity returns whose log it is.
func (l *Log) Identity() Identity { return l.identity }

// Groups returns the ids of the groups that have state, in ascending order.
func (l *Log) Groups() []uint64 {
	var ids []uint64
	for _, g := range l.sortedGroups() {
		if g.exists() {
			ids = append(ids, g.id)
		}
	}
	return ids
}

// exists says whether the group has state.
func (g *Group) exists() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.sequence != 0
}

// sortedGroups returns every group that was asked for or has state, by id.
func (l *Log) sortedGroups() []*Group {
	l.groups.RLock()
	defer l.groups.RUnlock()
	groups := make([]*Group, 0, len(l.groups.byID))
	for _, g := range l.groups.byID {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *Group) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return groups
}

// Group returns the log of a group. An id that the log does not know gives an empty group, which
// fills when something is appended to it. The same id always gives the same pointer.
func (l *Log) Group(id uint64) *Group {
	l.groups.RLock()
	g := l.groups.byID[id]
	l.groups.RUnlock()
	if g != nil {
		return g
	}
	l.groups.Lock()
	defer l.groups.Unlock()
	if g = l.groups.byID[id]; g == nil {
		g = &Group{id: id, log: l}
		g.index.reset(0)
		l.groups.byID[id] = g
	}
	return g
}

// Err returns the error that poisoned the log, nil while it is good.
func (l *Log) Err() error {
	if p := l.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// SyncStarted returns when the append or sync in flight began, by Options.Now; the zero time if none
// is. It covers the write, the sync and the wait for the next segment, any of which a hung disk may
// hold. A leader whose disk hangs hands over.
func (l *Log) SyncStarted() time.Time {
	n := l.syncStarted.Load()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// poison keeps the first error for the life of the log and returns what callers get.
func (l *Log) poison(cause error) error {
	err := fmt.Errorf("%w: %w", ErrPoisoned, cause)
	if l.failed.CompareAndSwap(nil, &err) {
		l.o.Logger.Error("log is poisoned", "dir", l.o.Dir, "error", cause)
	}
	return *l.failed.Load()
}

// usable says why the log takes no writes, if so.
func (l *Log) usable() error {
	if l.closed.Load() {
		return ErrClosed
	}
	return l.Err()
}

func (l *Log) usableForReads() error {
	if l.closed.Load() {
		return ErrClosed
	}
	return nil
}

// Close makes everything appended durable, writes the superblock and gives the directory free. It
// waits for the worker. The first call does so; later ones return nil. A log that is poisoned is
// closed without writing.
func (l *Log) Close() error {
	l.appender.Lock()
	defer l.appender.Unlock()
	if l.closed.Load() {
		return nil
	}
	var err error
	if l.Err() == nil {
		err = l.syncActive()
	}
	l.closed.Store(true)
	err = errors.Join(err, l.worker.stop())
	if l.Err() == nil {
		err = errors.Join(err, l.writeSuperblock(true))
	}
	return errors.Join(err, l.releaseFiles(), l.super.close(), l.lock.Close())
}

// releaseFiles lets go of every file; readers that still use one close it themselves.
func (l *Log) releaseFiles() error {
	l.segs.Lock()
	list := l.segs.list
	l.segs.list = nil
	l.segs.Unlock()
	var errs []error
	for _, s := range list {
		errs = append(errs, s.release())
	}
	for _, s := range l.worker.takeAll() {
		errs = append(errs, s.release())
	}
	if l.next != nil {
		errs = append(errs, l.next.release())
		l.next = nil
	}
	return errors.Join(errs...)
}
