package sim_test

import (
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// Election Safety (thesis figure 3.2): at most one leader in a term. A process that leads in a term in
// which an earlier one on the same disk has led is another leader: it has forgotten its vote, and may
// put other entries at the same places.

type leaders map[uint64]leadership // by term

// leadership is who led in a term: the host, and which of its processes.
type leadership struct{ node, life uint64 }

func (g *group) checkLeader(role raft.StateType, term uint64) {
	if role == raft.StateLeader && g.noteLeader(term) {
		g.checkComplete(term)
		g.checkElected(term, g.core.Members())
	}
}

// noteLeader notes that this process has led in a term, and reports whether that is new.
func (g *group) noteLeader(term uint64) bool {
	known, now := g.w.oracle.group(g.id).leaders, leadership{g.p.h.id, g.p.life}
	switch was, ok := known[term]; {
	case !ok:
		known[term] = now
		g.w.oracle.elections++
		return true
	case was.node != now.node:
		g.w.violated("election safety", "group %d has the leaders %d and %d in term %d", g.id, was.node,
			now.node, term)
	case was.life != now.life:
		g.w.violated("election safety", "node %d leads group %d in term %d in its lives %d and %d",
			now.node, g.id, term, was.life, now.life)
	}
	return false
}

// checkLed looks at what only a leader sends. A leadership that begins and ends between two Readys
// shows in nothing else, but others follow it.
//
// Such a leader is not held against the committed log: what is of an older term may have been committed
// by the leader of a newer one since. Its electors may be those of any configuration since the last look,
// as its core may know a newer one by now.
func (g *group) checkLed(messages []*pb.Message) {
	s := g.core.Status()
	for _, m := range messages {
		switch m.GetType() {
		case pb.MsgApp, pb.MsgHeartbeat, pb.MsgSnap, pb.MsgTimeoutNow:
		default:
			continue
		}
		if s.Role == raft.StateLeader && s.Term == m.GetTerm() {
			continue // check looks at it
		}
		if g.noteLeader(m.GetTerm()) {
			g.checkElected(m.GetTerm(), append(g.inForce, g.core.Members())...)
		}
	}
}

// checkAsks: a candidate asks for votes when its own term and vote are on its disk. Else it could be
// elected, lead, forget that with a power cut, and be elected again in the same term by those who have
// voted for it.
func (g *group) checkAsks(messages []*pb.Message) {
	for _, m := range messages {
		if m.GetType() != pb.MsgVote {
			continue
		}
		v := g.p.h.promised[g.id]
		if v == nil || v.state.Term < m.GetTerm() ||
			v.state.Term == m.GetTerm() && v.state.Vote != g.p.h.id {
			g.w.violated("election safety", "node %d, group %d asks for votes in term %d before its own is "+
				"durable", g.p.h.id, g.id, m.GetTerm())
		}
	}
}
