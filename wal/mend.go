package wal

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// Mend gives a fenced group entries that fill its hole, as peers have them. The first one has the
// index Damage().FirstIndex.
//
// If intact entries stand behind the hole, entries must reach up to Damage().Resume, and the last
// one must have the term that the entry there has: by the log matching property it then is the
// same entry, and everything behind it fits. Otherwise nothing stands behind, and the entries must
// reach the floor. On return they are durable and, unless another hole follows, Damage is nil.
// Entries that do not fit are ErrInvalid and change nothing.
func (l *Log) Mend(group uint64, entries []*raftpb.Entry) error {
	l.appender.Lock()
	defer l.appender.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	g := l.Group(group)
	if g.damage == nil {
		return fmt.Errorf("%w: group %d is not damaged", ErrInvalid, group)
	}
	if len(entries) == 0 {
		return fmt.Errorf("%w: group %d: nothing to mend with", ErrInvalid, group)
	}
	l.beginRound()
	if g.damage.Resume == 0 {
		return l.mendTail(g, entries)
	}
	return l.mendHole(g, entries)
}

// mendTail appends what is missing at the end.
func (l *Log) mendTail(g *Group, entries []*raftpb.Entry) error {
	t := l.tipOf(g)
	if first := entries[0].GetIndex(); first != t.visible+1 {
		return fmt.Errorf("%w: group %d: mend from %d on, the hole begins at %d", ErrInvalid, g.id,
			first, t.visible+1)
	}
	if last := entries[len(entries)-1].GetIndex(); last < g.floor {
		return fmt.Errorf("%w: group %d: mend up to %d, the floor is %d", ErrInvalid, g.id, last,
			g.floor)
	}
	if err := l.stageUpdate(&Update{Group: g.id, Entries: entries}); err != nil {
		return err
	}
	l.frame(g, t, frameFence)
	return l.commit(true)
}

// mendHole fills a hole in front of entries that stand. The entry at resume only proves that the
// others fit, it is there already.
func (l *Log) mendHole(g *Group, entries []*raftpb.Entry) error {
	t, d := l.tipOf(g), g.damage
	if err := checkEntries(g.id, t, entries); err != nil {
		return err
	}
	n := len(entries) - 1
	first, last := entries[0].GetIndex(), entries[n].GetIndex()
	if first != d.FirstIndex || last != d.Resume {
		return fmt.Errorf("%w: group %d: mend with %d to %d, the hole needs %d to %d", ErrInvalid,
			g.id, first, last, d.FirstIndex, d.Resume)
	}
	if want := g.termAt(d.Resume); entries[n].GetTerm() != want {
		return fmt.Errorf("%w: group %d: entry %d has term %d here and %d in the mend", ErrInvalid,
			g.id, d.Resume, want, entries[n].GetTerm())
	}
	f := l.frame(g, t, frameFill)
	f.header.first, f.header.priorTerm = first, g.termAt(first-1)
	f.source.entries = entries[:n]
	if g.index.nextMissing(d.Resume) == 0 && g.floor <= g.index.last {
		l.frame(g, t, frameFence)
	} else {
		l.staged = append(l.staged, tailFrame(g))
	}
	return l.commit(true)
}

// Unfence lifts the fence of a group that has no hole, durably: its log ends where it ends, and
// the caller has made sure that nothing it acknowledged behind that counts any more. A group with
// intact entries behind a hole is ErrInvalid: Mend it, or append over the hole.
func (l *Log) Unfence(group uint64) error {
	l.appender.Lock()
	defer l.appender.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	g := l.Group(group)
	switch {
	case g.damage == nil:
		return nil
	case g.damage.Resume != 0:
		return fmt.Errorf("%w: group %d has entries behind its hole", ErrInvalid, group)
	}
	l.beginRound()
	l.frame(g, l.tipOf(g), frameFence)
	return l.commit(true)
}

// Fence fences a group, durably, as damage would: for a caller that knows from elsewhere that the
// group has acknowledged what its log does not have, because the directory was lost as a whole. The
// group may be unknown to the log. Damage is not nil from then on, over restarts, until Unfence.
func (l *Log) Fence(group uint64) error {
	l.appender.Lock()
	defer l.appender.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	g := l.Group(group)
	if g.damage != nil {
		return nil
	}
	l.beginRound()
	t := l.tipOf(g)
	f := l.frame(g, t, frameFence)
	f.header.flags |= flagFence
	f.source.floor = t.last
	return l.commit(true)
}
