package sim_test

import (
	"errors"
	"slices"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// Durability (thesis sections 3.3 and 11.7.3; docs of package wal): what a synced append returned
// for is there after any crash, term, vote and commit never go back, what was overwritten stays
// gone, and damage is never silent.

// promiseBatch notes what a synced append has returned for: what raft asked for, not what was
// written.
func (h *host) promiseBatch(batch []ready) {
	for _, r := range batch {
		if r.append == nil || !r.append.Sync {
			continue
		}
		v := h.view(r.g.id)
		v.state = r.state
		if s := r.append.Snapshot; s != nil {
			v.reset(s.GetMetadata().GetIndex(), s.GetMetadata().GetTerm())
		}
		if entries := r.append.Entries; len(entries) > 0 {
			ids := make([]entryID, len(entries))
			for i, e := range entries {
				ids[i] = idOf(e)
			}
			if !v.put(entries[0].GetIndex(), ids) {
				h.w.violated("order", "node %d, group %d appends entry %d behind %d", h.id, r.g.id,
					entries[0].GetIndex(), v.last())
			}
		}
	}
}

// promise notes updates that do not come from the Ready channel.
func (h *host) promise(updates []wal.Update) {
	for _, u := range updates {
		v := h.view(u.Group)
		if u.State != nil {
			v.state = *u.State
		}
		if u.Mark != nil {
			v.reset(u.Mark.Index, u.Mark.Term)
		}
	}
}

func (h *host) view(group uint64) *logView {
	v := h.promised[group]
	if v == nil {
		v = &logView{}
		h.promised[group] = v
	}
	return v
}

// compacted notes that the log begins later.
func (h *host) compacted(group, index uint64) {
	h.view(group).compact(index)
	if h.proc != nil {
		h.proc.group(group).handed.compact(index)
	}
}

// mended notes that a hole is filled, and looks at everything.
func (h *host) mended(group uint64, log *wal.Group) {
	v := viewOf(h, log)
	h.w.oracle.group(group).checkMatching(v, 0, h.id)
	h.promised[group] = v
}

// checkRecovered holds a log that was opened again against what was promised.
func (h *host) checkRecovered(log *wal.Log) {
	if found := log.Identity().Incarnation; h.incarnation == 0 {
		h.incarnation = found
	} else if found != h.incarnation {
		h.w.violated("durability", "node %d has another incarnation after a restart", h.id)
	}
	for id := uint64(1); id <= uint64(h.w.plan.config.groups); id++ {
		g := log.Group(id)
		found := viewOf(h, g)
		h.w.oracle.group(id).checkMatching(found, 0, h.id)
		if promised := h.promised[id]; promised != nil {
			h.checkKept(id, promised, found, g.Damage())
		}
		if damage := g.Damage(); damage != nil {
			h.note("damage", damage.FirstIndex, damage.LastIndex, damage.Floor, damage.Resume)
			h.w.stats.damages++
			h.w.trace.say("n%d g%d %v", h.id, id, damage)
		}
		h.promised[id] = found
	}
	h.inFlight, h.mending = nil, nil
}

func (h *host) checkKept(group uint64, promised, found *logView, damage *wal.DamageError) {
	if damage != nil {
		// The state may be older too: a damaged group asks its peers how far the terms are.
		// So may a group whose fence stands since an earlier life.
		if !h.spoiled && !h.misread && !h.weak[group] {
			h.w.violated("durability", "node %d, group %d: damage without a cause: %v", h.id, group,
				damage)
		}
		return
	}
	if h.misread {
		// What nothing later in the log confirms cannot be told from a torn write (docs of package
		// wal): misread while the log is opened, it is taken for one. The node counts as weak.
		return
	}
	was, is := promised.state, found.state
	if is.Term < was.Term || is.Term == was.Term && was.Vote != 0 && is.Vote != was.Vote {
		h.w.violated("durability", "node %d, group %d: term %d and vote %d after a restart, were %d "+
			"and %d", h.id, group, is.Term, is.Vote, was.Term, was.Vote)
	}
	if is.Commit < was.Commit {
		h.w.violated("durability", "node %d, group %d: commit %d after a restart, was %d", h.id,
			group, is.Commit, was.Commit)
	}
	for index := max(promised.base, found.base) + 1; index <= promised.last(); index++ {
		want, _ := promised.at(index)
		got, ok := found.at(index)
		if ok && got == want {
			continue
		}
		if ok && got.term > want.term {
			return // an append that was under way overwrote the rest
		}
		h.w.violated("durability", "node %d, group %d: entry %d of term %d was acknowledged and is "+
			"not there (%v, of term %d)", h.id, group, index, want.term, ok, got.term)
	}
	h.checkExtra(group, promised, found)
}

// checkExtra holds what a log has beyond its promise against the append that was under way.
func (h *host) checkExtra(group uint64, promised, found *logView) {
	if slices.Contains(h.mending, group) {
		return // what stands behind a hole is there again when that is filled
	}
	attempted := map[uint64]entryID{}
	for _, r := range h.inFlight {
		if r.g.id != group || r.append == nil {
			continue
		}
		if r.append.Snapshot != nil {
			return // it replaces the log
		}
		for _, e := range r.append.Entries {
			attempted[e.GetIndex()] = idOf(e)
		}
	}
	for index := max(promised.last(), found.base) + 1; index <= found.last(); index++ {
		if got, _ := found.at(index); attempted[index] != got {
			h.w.violated("durability", "node %d, group %d: entry %d of term %d came back from nowhere",
				h.id, group, index, got.term)
		}
	}
}

// checkOpenError says which reasons a process may have not to start.
func (h *host) checkOpenError(err error) {
	h.w.trace.say("n%d cannot open: %v", h.id, err)
	if errors.Is(err, vfs.ErrNoSpace) || errors.Is(err, wal.ErrDiskFull) ||
		errors.Is(err, vfs.ErrIO) || errors.Is(err, errDied) {
		h.note("cannot open")
		return
	}
	if h.misread || h.refusesNext(err) {
		h.note("cannot open")
		return
	}
	if _, ok := errors.AsType[*wal.IdentityError](err); ok && h.foreign {
		h.note("refuses foreign disk")
		return
	}
	if damage, ok := errors.AsType[*wal.DamageError](err); ok && h.spoiled {
		h.note("refuses damage", damage.Group, damage.FirstIndex)
		h.permanent = true
		return
	}
	h.w.violated("recovery", "node %d cannot open its log: %v", h.id, err)
}

// checkStopped says which reasons a group may have to stop.
func (g *group) checkStopped(err error) {
	if g.p.failed == nil && !g.p.h.misread && !g.p.h.refusesNext(err) {
		g.w.violated("progress", "group %d stops on node %d: %v", g.id, g.p.h.id, err)
	}
}
