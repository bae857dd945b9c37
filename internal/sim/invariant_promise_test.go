package sim_test

import (
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
)

// The promise that leases stand on (internal/replica, lease.go): who has heard of a leader votes for
// nobody for an election timeout of its own clock, over restarts too, unless that leader has forced the
// election.

// promises is what a host owes to the leader of a group.
type promises struct {
	heard int64 // when a message of it was taken, as the host's clock goes; 0 = never
}

// notePromise looks at a message before the core does.
func (g *group) notePromise(m *pb.Message) {
	h := g.p.h
	switch m.GetType() {
	case pb.MsgApp, pb.MsgHeartbeat, pb.MsgSnap:
		if m.GetTerm() >= g.core.Status().Term {
			h.promises[g.id].heard = h.mono()
		}
	case pb.MsgVote, pb.MsgPreVote:
		c := &g.w.plan.config
		silence := int64(time.Duration(c.electionTicks-2) * c.tick)
		heard := h.promises[g.id].heard
		if heard == 0 || h.mono()-heard >= silence || string(m.GetContext()) == "CampaignTransfer" {
			g.mayVote[m.GetFrom()] = max(g.mayVote[m.GetFrom()], m.GetTerm())
		}
	}
}

// checkPromise holds the votes among messages that leave against what the core was asked.
func (g *group) checkPromise(messages []*pb.Message) {
	for _, m := range messages {
		switch m.GetType() {
		case pb.MsgVoteResp, pb.MsgPreVoteResp:
			to := m.GetTo()
			if to == g.p.h.id || m.GetReject() || m.GetTerm() <= g.mayVote[to] {
				continue
			}
			g.w.violated("promise", "node %d, group %d votes for node %d in term %d, %v after it has heard "+
				"a leader", g.p.h.id, g.id, to, m.GetTerm(),
				time.Duration(g.p.h.mono()-g.p.h.promises[g.id].heard))
		}
	}
}
