package sim_test

import "go.etcd.io/raft/v3"

// Election Safety (thesis figure 3.2): at most one leader in a term.

type leaders map[uint64]uint64 // by term

func (g *group) checkLeader(role raft.StateType, term uint64) {
	if role != raft.StateLeader {
		return
	}
	known := g.w.oracle.group(g.id).leaders
	if other, ok := known[term]; ok && other != g.p.h.id {
		g.w.violated("election safety", "group %d has the leaders %d and %d in term %d", g.id, other,
			g.p.h.id, term)
	} else if !ok {
		known[term] = g.p.h.id
		g.w.oracle.elections++
		g.checkComplete(term)
		g.checkElected(term)
	}
}
