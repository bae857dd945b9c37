package replica_test

import (
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
)

// appends counts the appends that the leader sends while step runs, with entries and without.
func (c *cluster) appends(step func()) (full, empty int) {
	before := c.hold
	defer func() { c.hold = before }()
	c.hold = func(m *pb.Message) bool {
		if m.GetType() == pb.MsgApp && len(m.GetEntries()) > 0 {
			full++
		} else if m.GetType() == pb.MsgApp {
			empty++
		}
		return false
	}
	step()
	return full, empty
}

// propose has node 1 propose a command and carries effects until only held messages are left.
func (c *cluster) propose(data string) {
	c.cores[1].Propose(proposals(&command{data: data}))
	c.carryAll()
}

func TestCommitIndexRidesWithTheNextEntry(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	full, empty := c.appends(func() {
		c.propose("a")
		c.propose("b")
	})
	if full != 4 || empty != 0 {
		t.Errorf("%d appends with entries and %d without, want 4 and 0", full, empty)
	}
	leader, follower := c.cores[1].Status().Commit, c.cores[2].Status().Commit
	if follower != leader-1 {
		t.Errorf("follower at commit %d of %d, want the index in front of the last", follower, leader)
	}
	full, empty = c.appends(func() { c.settle() })
	if full != 0 || empty != 2 {
		t.Errorf("after the flush %d appends with entries and %d without, want 0 and 2", full, empty)
	}
	if got := c.cores[2].Status().Commit; got != leader {
		t.Errorf("follower at commit %d after the flush, want %d", got, leader)
	}
}

// Without anybody to flush, the commit index goes out with the next tick.
func TestHeldCommitIndexGoesOutWithATick(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.propose("a")
	if !c.cores[1].Holding() {
		t.Fatal("the leader holds nothing back")
	}
	c.cores[1].Tick()
	c.carryAll()
	if got, want := c.cores[2].Status().Commit, c.cores[1].Status().Commit; got != want {
		t.Errorf("follower at commit %d after a tick, want %d", got, want)
	}
}
