package replica_test

import (
	"slices"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
)

// A candidate whose disk is slow asks nobody for a vote before its own is durable. Else the others
// elect it, it sends entries, loses its term in a power cut, and is elected again in the same term,
// with other entries.
func TestCandidateAsksWhenItsVoteIsDurable(t *testing.T) {
	c := newCluster(t)
	n1 := c.cores[1]
	must(t, n1.Campaign())
	others := func() { // everything of nodes 2 and 3, and what the network has for anybody
		for range 3 {
			messages := c.network
			c.network = nil
			for _, m := range messages {
				must(t, c.cores[m.GetTo()].Step(m.GetFrom(), m))
			}
			for _, id := range []uint64{2, 3} {
				for c.cores[id].HasReady() {
					c.carry(id, c.cores[id].Ready(1, 1))
				}
			}
		}
	}
	var asked []*pb.Message // with the term and vote of node 1, which are not durable yet
	for range 5 {
		for n1.HasReady() {
			rd := n1.Ready(1, 1)
			for _, m := range rd.Messages {
				if m.GetType() == pb.MsgVote || m.GetType() == pb.MsgApp {
					t.Fatalf("%v of term %d leaves before the vote is durable", m.GetType(), m.GetTerm())
				}
				c.network = append(c.network, m)
			}
			if rd.Append != nil {
				votes := slices.DeleteFunc(slices.Clone(rd.Append.Responses),
					func(m *pb.Message) bool { return m.GetType() != pb.MsgVote })
				if len(votes) > 0 && !rd.Append.Sync {
					t.Error("an append with a new vote is not synced")
				}
				asked = append(asked, votes...)
			}
		}
		others()
	}
	if len(asked) != 2 {
		t.Fatalf("the append with the vote has %d requests for votes, want those to nodes 2 and 3",
			len(asked))
	}
	if term := c.cores[2].Status().Term; term >= asked[0].GetTerm() {
		t.Errorf("node 2 is in term %d already", term)
	}
}
