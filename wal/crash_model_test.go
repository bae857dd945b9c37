package wal_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/wal"
)

// model is what a log holds, group by group, written down the plain way. Models are immutable, so
// one can be kept for each moment of a workload.
type model map[uint64]groupModel

// groupModel is one group of a model.
type groupModel struct {
	state wal.State
	mark  wal.Mark
	// entries are those behind mark.
	entries []*raftpb.Entry
}

func (g groupModel) last() uint64 { return g.mark.Index + uint64(len(g.entries)) }

// term is the term of the entry at index, which is the mark or behind it.
func (g groupModel) term(index uint64) uint64 {
	if index == g.mark.Index {
		return g.mark.Term
	}
	return g.entries[index-g.mark.Index-1].GetTerm()
}

// with returns the model after an update.
func (m model) with(u wal.Update) model {
	g := m[u.Group]
	if u.State != nil {
		g.state = *u.State
	}
	if u.Mark != nil {
		g.mark, g.entries = *u.Mark, nil
	}
	if len(u.Entries) > 0 {
		keep := u.Entries[0].GetIndex() - g.mark.Index - 1
		g.entries = slices.Concat(g.entries[:keep], u.Entries)
	}
	return m.put(u.Group, g)
}

// compacted returns the model after Compact.
func (m model) compacted(group, index uint64) model {
	g := m[group]
	if index <= g.mark.Index {
		return m
	}
	g.mark.Term = g.term(index)
	g.entries = g.entries[index-g.mark.Index:]
	g.mark.Index = index
	return m.put(group, g)
}

// removed returns the model after RemoveGroup.
func (m model) removed(group uint64) model {
	c := maps.Clone(m)
	delete(c, group)
	return c
}

func (m model) put(group uint64, g groupModel) model {
	c := maps.Clone(m)
	if c == nil {
		c = model{}
	}
	c[group] = g
	return c
}

// differs says where an open log is not what the model says; nil if it is the same.
func (m model) differs(l *wal.Log) error { return m.compare(l, groupModel.differs) }

// missing says what of the model a log has not. Damage that made it forget a compaction has cost
// nothing, so that does not count.
func (m model) missing(l *wal.Log) error { return m.compare(l, groupModel.missing) }

func (m model) compare(l *wal.Log, compare func(groupModel, *wal.Group) error) error {
	if got, want := l.Groups(), slices.Sorted(maps.Keys(m)); !slices.Equal(got, want) {
		return fmt.Errorf("groups %v, want %v", got, want)
	}
	for _, id := range slices.Sorted(maps.Keys(m)) {
		if err := compare(m[id], l.Group(id)); err != nil {
			return fmt.Errorf("group %d: %w", id, err)
		}
	}
	return nil
}

func (g groupModel) differs(got *wal.Group) error {
	mark := got.Mark()
	if mark.Index != g.mark.Index || mark.Term != g.mark.Term {
		return fmt.Errorf("mark %+v, want %+v", mark, g.mark)
	}
	return g.missing(got)
}

// missing says what of the model a group has not. That it was compacted may be forgotten.
func (g groupModel) missing(got *wal.Group) error {
	if d := got.Damage(); d != nil {
		return fmt.Errorf("fenced: %w", d)
	}
	if got.State() != g.state {
		return fmt.Errorf("state %+v, want %+v", got.State(), g.state)
	}
	if mark := got.Mark(); !proto.Equal(mark.ConfState, g.mark.ConfState) {
		return fmt.Errorf("mark %+v, want %+v", mark, g.mark)
	}
	if first, last := got.FirstIndex(), got.LastIndex(); first > g.mark.Index+1 || last != g.last() {
		return fmt.Errorf("entries %d to %d, want %d to %d", first, last, g.mark.Index+1, g.last())
	}
	return g.entriesDiffer(got)
}

func (g groupModel) entriesDiffer(got *wal.Group) error {
	if g.last() == 0 {
		return nil
	}
	for index := g.mark.Index; index <= g.last(); index++ {
		if term, err := got.Term(index); err != nil || term != g.term(index) {
			return fmt.Errorf("term of %d is %d, %v; want %d", index, term, err, g.term(index))
		}
	}
	if len(g.entries) == 0 {
		return nil
	}
	const all = ^uint64(0)
	entries, err := got.Entries(g.mark.Index+1, g.last()+1, all)
	if err != nil {
		return fmt.Errorf("entries %d to %d: %w", g.mark.Index+1, g.last(), err)
	}
	if len(entries) != len(g.entries) {
		return fmt.Errorf("%d entries, want %d", len(entries), len(g.entries))
	}
	for i, want := range g.entries {
		if !sameEntry(entries[i], want) {
			return fmt.Errorf("entry %d is %.80v, want %.80v", want.GetIndex(), entries[i], want)
		}
	}
	return nil
}

// entriesDiffer compares the entries of all groups and nothing else: damage may have taken votes,
// which peers cannot give back.
func (m model) entriesDiffer(l *wal.Log) error {
	for _, id := range slices.Sorted(maps.Keys(m)) {
		got := l.Group(id)
		if d := got.Damage(); d != nil {
			return fmt.Errorf("group %d is fenced: %w", id, d)
		}
		if got.LastIndex() != m[id].last() || got.FirstIndex() > m[id].mark.Index+1 {
			return fmt.Errorf("group %d: entries %d to %d, want %d to %d", id, got.FirstIndex(),
				got.LastIndex(), m[id].mark.Index+1, m[id].last())
		}
		if err := m[id].entriesDiffer(got); err != nil {
			return fmt.Errorf("group %d: %w", id, err)
		}
	}
	return nil
}

// mend gives the log of a fenced group what a peer has, hole by hole.
func (g groupModel) mend(l *wal.Log, id uint64) error {
	for range 100 {
		hole := l.Group(id).Damage()
		if hole == nil {
			return nil
		}
		if err := g.mendHole(l, id, hole); err != nil {
			return fmt.Errorf("mend hole %+v: %w", *hole, err)
		}
	}
	return fmt.Errorf("fenced after 100 holes: %w", l.Group(id).Damage())
}

// mendHole gives the hole and the entry behind it. A peer that has compacted that, or has a shorter
// log than the floor because entries were replaced by fewer, sends a snapshot. A group that by the
// peer's log has lost nothing is let go.
func (g groupModel) mendHole(l *wal.Log, id uint64, hole *wal.DamageError) error {
	last := hole.Resume
	if last == 0 {
		last = g.last()
	}
	switch {
	case hole.Resume == 0 && hole.FirstIndex == g.last()+1 && hole.Floor <= g.last():
		return l.Unfence(id)
	case hole.FirstIndex <= g.mark.Index, hole.FirstIndex > last, last > g.last(),
		hole.Resume == 0 && hole.Floor > g.last():
		return g.install(l, id)
	}
	return l.Mend(id, g.entries[hole.FirstIndex-g.mark.Index-1:last-g.mark.Index])
}

// before is what of a group stands in front of an index. If that was compacted, there is nothing to
// compare.
func (g groupModel) before(index uint64) groupModel {
	switch {
	case index <= g.mark.Index:
		return groupModel{}
	case index <= g.last():
		g.entries = g.entries[:index-g.mark.Index-1]
	}
	return g
}

// install gives the log of a fenced group the snapshot of a peer that has compacted what is
// missing.
func (g groupModel) install(l *wal.Log, id uint64) error {
	state := g.state
	state.Term = max(state.Term, l.Group(id).State().Term)
	u := wal.Update{Group: id, State: &state, Mark: &g.mark, Entries: g.entries}
	if err := l.Append([]wal.Update{u}, true); err != nil {
		return err
	}
	return l.Unfence(id)
}

func sameEntry(a, b *raftpb.Entry) bool {
	return a.GetIndex() == b.GetIndex() && a.GetTerm() == b.GetTerm() &&
		a.GetType() == b.GetType() && bytes.Equal(a.GetData(), b.GetData())
}

// history is a workload in the terms of the model: what each call changed, and between which
// positions of the recording it ran.
type history struct {
	// models[i] is the log after i changes; an Update, a Compact and a RemoveGroup are one each.
	models []model
	// calls are in order.
	calls []call
}

// call is one call of the log.
type call struct {
	what string
	// start and end are positions of the recording: operations [start, end) are of this call.
	start, end int
	// changes is how many changes there are when the call has returned.
	changes int
	// acknowledges says that all these changes are durable when the call has returned.
	acknowledges bool
}

// now is the model after everything so far.
func (h *history) now() model { return h.models[len(h.models)-1] }

func (h *history) change(m model) { h.models = append(h.models, m) }

// bounds returns how many changes a crash behind the first position operations must keep, and how
// many it may keep.
func (h *history) bounds(position int) (acknowledged, attempted int) {
	for _, c := range h.calls {
		if c.end <= position && c.acknowledges {
			acknowledged = max(acknowledged, c.changes)
		}
		if c.start < position || c.end <= position {
			attempted = max(attempted, c.changes)
		}
	}
	return acknowledged, max(acknowledged, attempted)
}

// match returns the number of changes in [from, to] that an open log holds, the highest that fits;
// the log of all groups together must be one prefix of what was attempted.
func (h *history) match(l *wal.Log, from, to int) (int, error) {
	var first error
	for n := to; n >= from; n-- {
		err := h.models[n].differs(l)
		if err == nil {
			return n, nil
		}
		if first == nil || n == from {
			first = fmt.Errorf("with %d changes: %w", n, err)
		}
	}
	return 0, fmt.Errorf("the log is none of the states %d to %d: %w", from, to, first)
}

// held says whether an open log has all of one of the states [from, to].
func (h *history) held(l *wal.Log, from, to int) bool {
	return slices.ContainsFunc(h.models[from:to+1], func(m model) bool { return m.missing(l) == nil })
}
