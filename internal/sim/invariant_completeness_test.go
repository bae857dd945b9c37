package sim_test

import "go.etcd.io/raft/v3"

// Leader Completeness (thesis figure 3.2 and section 3.6): a leader has every entry that was
// committed in earlier terms. By Log Matching the last of them stands for all.

// checkComplete looks at a replica that has just become leader.
func (g *group) checkComplete(term uint64) {
	o := g.w.oracle.group(g.id)
	last := o.last()
	if last < firstIndex {
		return
	}
	id := o.at(last)
	if id.term < term && !g.handed.holds(last, id.term) {
		g.w.violated("leader completeness",
			"node %d leads group %d in term %d without entry %d of term %d, which is committed",
			g.p.h.id, g.id, term, last, id.term)
	}
}

// checkLeaders looks at the leaders there are when an entry turns out to be committed.
func (o *groupOracle) checkLeaders(index, term uint64) {
	for _, h := range o.w.hosts {
		if h.proc == nil || !h.proc.opened {
			continue
		}
		g := h.proc.group(o.id)
		if g.core == nil || g.failed != nil {
			continue
		}
		s := g.core.Status()
		if s.Role == raft.StateLeader && s.Term > term && !g.handed.holds(index, term) {
			o.w.violated("leader completeness",
				"node %d leads group %d in term %d without entry %d of term %d, committed now",
				h.id, o.id, s.Term, index, term)
		}
	}
}
