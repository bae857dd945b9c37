package wal

import (
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Group reads the log of one raft group, with the semantics of raft.Storage. Its methods may be
// called from any goroutine, also during Append, and see what the last finished Append made.
//
// A group with a hole (see Damage) ends in front of it: LastIndex is the last entry before the
// hole, and what stands intact behind it is kept aside for Mend.
type Group struct {
	id  uint64
	log *Log

	// mu guards what follows. Only the appender writes, so it may read without mu.
	mu    sync.RWMutex
	state State
	mark  Mark
	index index
	// visible is the last index in front of the first hole, index.last without one.
	visible uint64
	// cached are the newest entries: the last of them has index.last and the first cachedFirst.
	cached      []*raftpb.Entry
	cachedFirst uint64
	// fenced says that the group lost what it had acknowledged up to floor, of which damage tells.
	fenced bool
	floor  uint64
	damage *DamageError

	// What follows belongs to the appender (or to recovery) alone.

	// sequence is that of the group's last frame; 0 means that the group has no state.
	sequence uint64
	// conf is mark.ConfState encoded.
	conf []byte
	// bytes are the encoded bytes of the entries in the index.
	bytes atomic.Int64
	tip   tip
}

// State returns the hard state that was appended last. Commit may lie behind LastIndex only while
// the group is fenced.
func (g *Group) State() State {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.state
}

// Mark returns where the log begins: Index and Term of the entry in front of FirstIndex, and the
// ConfState of the last mark that was appended.
func (g *Group) Mark() Mark {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.mark
}

// FirstIndex is the index of the first entry, or of the one to come if the log is empty.
func (g *Group) FirstIndex() uint64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.mark.Index + 1
}

// LastIndex is the index of the last entry, or that of the mark if the log is empty.
func (g *Group) LastIndex() uint64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.visible
}

// Term returns the term of the entry at index, which lies in [FirstIndex-1, LastIndex];
// raft.ErrCompacted before that and raft.ErrUnavailable behind it.
func (g *Group) Term(index uint64) (uint64, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	switch {
	case index < g.mark.Index:
		return 0, raft.ErrCompacted
	case index == g.mark.Index:
		return g.mark.Term, nil
	case index > g.visible:
		return 0, raft.ErrUnavailable
	}
	return g.index.at(index).term, nil
}

// Damage is not nil for a group that is fenced: it may not vote, campaign or acknowledge entries
// up to Floor before Log.Mend or Log.Unfence has lifted the fence. A mark does not lift it, because
// the floor is only a lower bound of what the group has acknowledged. The fence survives a restart.
func (g *Group) Damage() *DamageError {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.damage
}

// termAt is the term of an entry that the group has or of its mark. The appender calls it.
func (g *Group) termAt(index uint64) uint64 {
	if index == g.mark.Index {
		return g.mark.Term
	}
	return g.index.at(index).term
}

// describe recomputes visible and damage after the index or the fence have changed. The caller
// holds mu, or is recovery.
func (g *Group) describe(cause *DamageError) {
	g.visible = g.index.last
	hole := g.index.nextMissing(g.index.mark + 1)
	if hole != 0 {
		g.visible = hole - 1
	}
	if !g.fenced {
		g.damage = nil
		return
	}
	d := DamageError{}
	if cause == nil {
		cause = g.damage
	}
	if cause != nil {
		d = *cause
	}
	d.Group, d.Floor = g.id, g.floor
	d.FirstIndex, d.LastIndex, d.Resume = g.visible+1, 0, 0
	switch {
	case hole != 0:
		d.Resume = g.index.nextPresent(hole)
		d.LastIndex = d.Resume - 1
	case g.floor > g.visible:
		d.LastIndex = g.floor
	}
	g.damage = &d
}
