package sim_test

import (
	"go.etcd.io/raft/v3"

	"github.com/connectraft/connect/internal/replica"
)

// The order of the indexes of one replica (thesis figure 3.1 and section 5): purged <= snapshot <=
// applied <= committed <= last, and none of term, commit and applied ever goes back.

// check is called after every event of a group.
func (g *group) check() {
	if g.core == nil || g.failed != nil || g.p.dead {
		return
	}
	s := g.core.Status()
	if s.Term < g.term || s.Commit < g.commit {
		g.w.violated("order", "node %d, group %d: term %d and commit %d, were %d and %d", g.p.h.id,
			g.id, s.Term, s.Commit, g.term, g.commit)
	}
	g.inForce = append(g.inForce, g.core.Members())
	if s.Commit > g.commit {
		g.checkCommit(g.commit, s.Commit)
	}
	g.inForce = append(g.inForce[:0], g.core.Members())
	g.checkMembers()
	if s.Role == raft.StateLeader {
		g.checkLeader(s.Role, s.Term)
	}
	g.checkFollows(s.Leader, s.Term)
	g.term, g.commit = s.Term, s.Commit
	g.checkOrder(s)
}

func (g *group) checkOrder(s replica.Status) {
	purged, last := g.wal.Mark().Index, s.LastIndex
	snapshot := uint64(0)
	if g.snaps.newest != nil {
		snapshot = g.snaps.newest.index
	}
	applied := g.apply.applied
	if g.restoring == 0 && !g.resetting() {
		if purged > 1 && purged > snapshot {
			g.w.violated("order", "node %d, group %d: the log begins at %d, the snapshot is of %d",
				g.p.h.id, g.id, purged, snapshot)
		}
		if snapshot > applied || applied > s.Commit || s.Commit > last {
			g.w.violated("order", "node %d, group %d: snapshot %d, applied %d, committed %d, last %d",
				g.p.h.id, g.id, snapshot, applied, s.Commit, last)
		}
	}
}

// resetting says that a snapshot of the leader is on its way through the log.
func (g *group) resetting() bool {
	for _, list := range [][]ready{g.p.appender.queue, g.p.appender.batch} {
		for _, r := range list {
			if r.g == g && r.append != nil && r.append.Snapshot != nil {
				return true
			}
		}
	}
	return false
}

// handedOut notes what the core wants the log to have.
func (g *group) handedOut(a *replica.Append) {
	o := g.w.oracle.group(g.id)
	if a.Snapshot != nil {
		m := a.Snapshot.GetMetadata()
		g.handed.reset(m.GetIndex(), m.GetTerm())
	}
	if len(a.Entries) == 0 {
		return
	}
	ids := make([]entryID, len(a.Entries))
	for i, e := range a.Entries {
		ids[i] = idOf(e)
	}
	first := a.Entries[0].GetIndex()
	if first <= g.commit {
		for i, id := range ids {
			if known, ok := g.handed.at(first + uint64(i)); ok && first+uint64(i) <= g.commit &&
				known != id {
				g.w.violated("state machine safety", "node %d, group %d overwrites entry %d, which is "+
					"committed", g.p.h.id, g.id, first+uint64(i))
			}
		}
	}
	if !g.handed.put(first, ids) {
		g.w.violated("order", "node %d, group %d hands out entry %d behind %d", g.p.h.id, g.id, first,
			g.handed.last())
	}
	s := g.core.Status()
	g.checkOneChange(a.Entries, s.Role, s.Term, s.Commit)
	o.checkMatching(g.handed, first, g.p.h.id)
	o.learn(a.Entries)
	g.note("append", first, a.Entries[len(a.Entries)-1].GetIndex(), ids[len(ids)-1].hash)
}
