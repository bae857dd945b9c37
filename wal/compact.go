package wal

import (
	"errors"
	"fmt"
	"time"

	"github.com/connectraft/connect/internal/vfs"
)

// Compact says that a group does not need its entries up to index any more, and removes the
// segments that no group needs. An index at or before the mark does nothing; one behind LastIndex
// is ErrInvalid. It syncs only if a file can go, because what makes a file superfluous has to be
// durable before the file goes; the file itself is removed in the background.
func (l *Log) Compact(group, index uint64) error {
	l.appender.Lock()
	defer l.appender.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	g := l.Group(group)
	l.beginRound()
	t := l.tipOf(g)
	switch {
	case index <= t.base:
		return nil
	case index > t.visible:
		return fmt.Errorf("%w: group %d: compact to %d behind the last index %d", ErrInvalid,
			group, index, t.visible)
	}
	f := l.frame(g, t, frameCompact)
	f.header.base, f.header.baseTerm = index, l.stagedTerm(g, t, index)
	if err := l.commit(false); err != nil {
		return err
	}
	return l.free()
}

// RemoveGroup forgets everything about a group, durably when it returns. It writes a record and
// touches nothing of other groups. A group without state does nothing.
func (l *Log) RemoveGroup(group uint64) error {
	l.appender.Lock()
	defer l.appender.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	g := l.Group(group)
	if g.sequence == 0 {
		return nil
	}
	l.beginRound()
	f := l.frame(g, l.tipOf(g), frameRemove)
	f.header.state = State{}
	f.header.first, f.header.priorTerm, f.header.base, f.header.baseTerm = 1, 0, 0, 0
	if err := l.commit(true); err != nil {
		return err
	}
	return l.free()
}

// clearGroup makes a group as if it had never been. The caller holds g.mu, or is recovery.
func (g *Group) clear() {
	g.clearLog()
	g.state, g.sequence = State{}, 0
	g.fenced, g.floor, g.damage = false, 0, nil
}

// clearLog drops the entries and the mark, as clear does.
func (g *Group) clearLog() {
	g.mark, g.conf = Mark{}, nil
	g.index.reset(0)
	g.cached, g.cachedFirst, g.visible = nil, 0, 0
	g.bytes.Store(0)
}

// maintain sees to what an append has made due.
func (l *Log) maintain(rotated bool) error {
	if rotated {
		if err := l.unpin(); err != nil {
			return err
		}
	}
	l.reclaim()
	return l.refreshSuperblock(rotated)
}

// free removes segments that no group needs, with a sync if there are any.
func (l *Log) free() error {
	if err := l.unpin(); err != nil {
		return err
	}
	if oldest := l.segs.list[0]; oldest == l.active || oldest.live.Load() > 0 {
		return nil
	}
	if err := l.syncActive(); err != nil {
		return err
	}
	l.reclaim()
	return nil
}

// reclaim hands the oldest segments to the worker for removal, as far as they have no live entry.
// The active segment repeats everything else that they say, so it and all that killed the entries
// must be durable.
func (l *Log) reclaim() {
	if l.durable != l.active.end {
		return
	}
	n := 0
	for l.segs.list[n] != l.active && l.segs.list[n].live.Load() == 0 {
		n++
	}
	if n == 0 {
		return
	}
	dead := l.segs.list[:n]
	l.segs.Lock()
	l.segs.list = append([]*segment(nil), l.segs.list[n:]...)
	l.segs.Unlock()
	l.worker.removeSegments(dead)
}

// unpinShare is the part of a segment up to which its live entries are worth being moved.
const unpinShare = 16

// unpin lets go of the oldest segment if only a little of it is alive: those entries are written
// again at the end. A frameFill changes nothing while the old place exists, and gives the entries
// when it is gone, so a crash leaves the old ones or the new ones. The segment goes after the next
// sync.
func (l *Log) unpin() error {
	oldest := l.segs.list[0]
	live := oldest.live.Load()
	if oldest == l.active || live == 0 || live > oldest.size/unpinShare {
		return nil
	}
	l.beginRound()
	for _, g := range l.sortedGroups() {
		if live <= 0 {
			break
		}
		n, err := l.stageMoves(g, place{segment: oldest})
		if err != nil {
			l.o.Logger.Warn("idle entries not moved", "group", g.id, "error", err)
			return nil
		}
		live -= n
	}
	if _, err := l.writeStaged(); err != nil {
		if errors.Is(err, ErrDiskFull) {
			return nil
		}
		return err
	}
	for i := range l.staged {
		l.publish(&l.staged[i])
	}
	l.publishSequences()
	l.o.Logger.Debug("idle entries moved", "frames", len(l.staged), "from", oldest.id)
	return nil
}

// stageMoves stages a frameFill for each run of a group's entries behind a place, and returns
// their encoded bytes.
func (l *Log) stageMoves(g *Group, from place) (int64, error) {
	if g.bytes.Load() == 0 {
		return 0, nil
	}
	frames, err := l.moveGroup(g, from, g.index.last)
	if err != nil {
		return 0, err
	}
	n := int64(0)
	for _, f := range frames {
		for _, e := range f.source.entries {
			n += entryBytes(len(e.GetData()))
		}
	}
	l.staged = append(l.staged, frames...)
	return n, nil
}

const (
	// superblockPeriod and superblockBytes bound how far the superblock lags behind a log that is
	// being written.
	superblockPeriod = time.Second
	superblockBytes  = 8 << 20
)

// refreshSuperblock sees to a new superblock when everything is durable and the newest one has
// become old. With Options.Inline only a rotation makes it old, so that no clock decides.
//
// A group that it does not list yet is written at once, before its first append returns: then no
// group is forgotten, whatever becomes of the segments.
func (l *Log) refreshSuperblock(rotated bool) error {
	l.super.rotated = l.super.rotated || rotated
	if l.durable != l.active.end || l.super.sequence == l.sequence {
		return nil
	}
	if l.super.unlisted {
		return l.listGroups()
	}
	due := l.super.rotated
	if !l.o.Inline {
		due = due || l.durable-l.super.offset >= superblockBytes ||
			l.o.Now().Sub(l.super.written) >= superblockPeriod
	}
	if due {
		l.super.rotated = false
		l.worker.writeSuperblock(l.nextSuperblock(false))
	}
	return nil
}

// listGroups writes the superblock that names a new group. Without it the group must not be
// acknowledged, so a failure ends the log.
func (l *Log) listGroups() error {
	err := l.writeSuperblock(false)
	if errors.Is(err, vfs.ErrNoSpace) && l.giveUpBallast() {
		err = l.writeSuperblock(false)
	}
	if err != nil {
		return l.poison(err)
	}
	return nil
}
