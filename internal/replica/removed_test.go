package replica_test

import (
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
)

// After a crash a replica goes by the last change that it knows to be committed. Of two members of
// which one was removed, the other one would need its vote again.
func TestCommitIndexOfAChangeIsDurable(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	for _, what := range []string{"r3", "r2", "u1"} {
		_, err := c.change(1, what, 0)
		must(t, err)
		if last := c.cores[1].Status().Version; c.durable[1] < last {
			t.Fatalf("%s: commit %d is durable, the change is entry %d", what, c.durable[1], last)
		}
	}
	if c.durable[2] == 0 {
		t.Error("no commit index is durable on a follower")
	}
}

// A replica that was told of its removal stands for no election, but votes for a member that does not
// know of it yet, when the time is over for which it owes its silence to the leader.
func TestRemovedReplicaVotes(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	asked := &pb.Message{Type: pb.MsgPreVote.Enum(), From: new(uint64(2)), To: new(uint64(3)),
		Term: new(uint64(9)), LogTerm: new(uint64(8)), Index: new(uint64(99))}
	grants := func() bool {
		must(t, c.cores[3].Step(2, asked))
		var all []*pb.Message
		for c.cores[3].HasReady() {
			rd := c.cores[3].Ready(0, 0)
			all = append(all, rd.Messages...)
			if rd.Append != nil {
				c.persist(3, rd.Append)
				all = append(all, rd.Append.Responses...)
			}
		}
		for _, m := range all {
			if m.GetType() == pb.MsgPreVoteResp && m.GetTo() == 2 {
				return !m.GetReject()
			}
		}
		return false
	}
	for tick := range 9 {
		if grants() {
			t.Fatalf("a vote %d ticks after the leader was heard", tick)
		}
		c.cores[3].TickOutside()
	}
	c.cores[3].TickOutside()
	c.cores[3].TickOutside()
	if !grants() {
		t.Error("no vote after an election timeout")
	}
	if s := c.cores[3].Status(); s.Leader != 0 {
		t.Errorf("status %+v, want no leader", s)
	}
}
