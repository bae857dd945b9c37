package wal

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// tip is what a group will look like once the frames that are staged are published. It is valid
// for one round of the appender.
type tip struct {
	round uint64
	// sequence is that of the group's last frame that was encoded in an attempt to write.
	attempt, sequence uint64

	state      State
	base, last uint64
	// visible is the last index that entries may follow; it is before last only if there is a hole.
	visible            uint64
	baseTerm, lastTerm uint64
}

// stagedFrame is a frame on its way from a call to the disk and into the index.
type stagedFrame struct {
	group  *Group
	header header
	source frameSource
	// mark is the one given with the update.
	mark *Mark
	// offset is where the frame was encoded to.
	offset int64
}

// beginRound drops what an earlier call staged.
func (l *Log) beginRound() {
	clear(l.staged)
	l.staged = l.staged[:0]
	l.round++
}

// tipOf returns the group's tip of this round.
func (l *Log) tipOf(g *Group) *tip {
	t := &g.tip
	if t.round != l.round {
		*t = tip{round: l.round, sequence: g.sequence, state: g.state, base: g.mark.Index,
			baseTerm: g.mark.Term, last: g.index.last, visible: g.visible,
			lastTerm: g.termAt(g.index.last)}
	}
	return t
}

// encodingTip is tipOf with the sequence of this attempt to write.
func (l *Log) encodingTip(g *Group) *tip {
	t := l.tipOf(g)
	if t.attempt != l.attempt {
		t.attempt, t.sequence = l.attempt, g.sequence
	}
	return t
}

// stagedTerm is the term of an entry at or below the tip's visible end.
func (l *Log) stagedTerm(g *Group, t *tip, index uint64) uint64 {
	switch index {
	case t.last:
		return t.lastTerm
	case t.base:
		return t.baseTerm
	}
	for i := len(l.staged) - 1; i >= 0; i-- {
		f := &l.staged[i]
		if f.group == g && index >= f.header.first && index-f.header.first < uint64(len(f.source.entries)) {
			return f.source.entries[index-f.header.first].GetTerm()
		}
	}
	return g.termAt(index)
}

// frame stages a frame without entries that says how the group stands; the caller changes it.
func (l *Log) frame(g *Group, t *tip, kind frameType) *stagedFrame {
	l.staged = append(l.staged, stagedFrame{group: g, header: header{
		kind: kind, group: g.id, state: t.state, first: t.last + 1, priorTerm: t.lastTerm,
		base: t.base, baseTerm: t.baseTerm,
	}})
	return &l.staged[len(l.staged)-1]
}

// stageUpdate checks an update against the log and stages its frame.
func (l *Log) stageUpdate(u *Update) error {
	g := l.Group(u.Group)
	t := l.tipOf(g)
	if u.State != nil {
		if err := checkState(g.id, t.state, *u.State); err != nil {
			return err
		}
		t.state = *u.State
	}
	var conf []byte
	if u.Mark != nil {
		var err error
		if conf, err = l.stageMark(g, t, u.Mark); err != nil {
			return err
		}
	}
	first, priorTerm := t.last+1, t.lastTerm
	if len(u.Entries) > 0 {
		if err := checkEntries(g.id, t, u.Entries); err != nil {
			return err
		}
		first = u.Entries[0].GetIndex()
		priorTerm = l.stagedTerm(g, t, first-1)
	}
	f := l.frame(g, t, frameAppend)
	f.header.first, f.header.priorTerm = first, priorTerm
	f.source.entries = u.Entries
	if f.mark = u.Mark; u.Mark != nil {
		f.header.flags |= flagMark
		if u.Mark.ConfState != nil {
			f.header.flags |= flagConf
			f.source.conf = conf
		}
	}
	if n := len(u.Entries); n > 0 {
		t.last, t.lastTerm = u.Entries[n-1].GetIndex(), u.Entries[n-1].GetTerm()
		t.visible = t.last
	}
	return nil
}

// checkState says why a state cannot follow another, if so: terms do not go back, and a vote stands
// for its term.
func checkState(group uint64, old, next State) error {
	switch {
	case next.Term < old.Term:
		return fmt.Errorf("%w: group %d: term %d after term %d", ErrInvalid, group, next.Term, old.Term)
	case next.Term == old.Term && old.Vote != 0 && next.Vote != old.Vote:
		return fmt.Errorf("%w: group %d: vote %d after vote %d in term %d", ErrInvalid, group,
			next.Vote, old.Vote, next.Term)
	}
	return nil
}

func (l *Log) stageMark(g *Group, t *tip, m *Mark) ([]byte, error) {
	if m.Index < t.base {
		return nil, fmt.Errorf("%w: group %d: mark %d before mark %d", ErrInvalid, g.id, m.Index,
			t.base)
	}
	conf, err := confBytes(m.ConfState)
	if err != nil {
		return nil, fmt.Errorf("wal: encode the membership of group %d: %w", g.id, err)
	}
	t.base, t.baseTerm = m.Index, m.Term
	t.last, t.lastTerm, t.visible = m.Index, m.Term, m.Index
	return conf, nil
}

// checkEntries says why entries cannot follow the tip, if so.
func checkEntries(group uint64, t *tip, entries []*raftpb.Entry) error {
	first := entries[0].GetIndex()
	if first <= t.base || first > t.visible+1 {
		return fmt.Errorf("%w: group %d: entries from %d on, allowed are %d to %d", ErrInvalid,
			group, first, t.base+1, t.visible+1)
	}
	for i, e := range entries {
		switch {
		case e.GetIndex() != first+uint64(i):
			return fmt.Errorf("%w: group %d: entry %d where %d belongs", ErrInvalid, group,
				e.GetIndex(), first+uint64(i))
		case len(e.GetData()) > entryBytesMax:
			return fmt.Errorf("%w: group %d: entry %d has %d bytes, allowed are %d", ErrInvalid,
				group, e.GetIndex(), len(e.GetData()), entryBytesMax)
		case e.GetType() < 0 || e.GetType() > entryTypeMax:
			return fmt.Errorf("%w: group %d: entry %d has type %d", ErrInvalid, group,
				e.GetIndex(), e.GetType())
		}
	}
	return nil
}
