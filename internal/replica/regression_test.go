package replica_test

import (
	"fmt"
	"io"
	"log"
	"testing"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// loseWithTerm is lose for a loss that took the newest hard states along: the node remembers term,
// and as the contract of Config.Fence says, has asked the others for theirs.
func (c *cluster) loseWithTerm(id, last, term uint64) {
	for other, core := range c.cores {
		if other != id {
			term = max(term, core.Status().Term)
		}
	}
	var entries []*pb.Entry
	if last > 1 {
		var err error
		entries, err = c.stores[id].Entries(2, last+1, 1<<30)
		must(c.t, err)
	}
	s := raft.NewMemoryStorage()
	must(c.t, s.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)),
		Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: []uint64{1, 2, 3}}}}))
	must(c.t, s.Append(entries))
	must(c.t, s.SetHardState(&pb.HardState{Term: new(term + 1), Vote: new(uint64(0)),
		Commit: new(uint64(1))}))
	core, err := replica.New(replica.Config{Group: 1, ID: id, ElectionTicks: 10, HeartbeatTicks: 1,
		Storage: s, Applied: 1, EntryBytes: 64, InflightBytes: 1 << 20, AppendsAhead: 4,
		ReadSeed: id << 40, Fence: term,
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}})
	must(c.t, err)
	c.cores[id], c.stores[id], c.applied[id] = core, s, nil
}

// Node 1 leads term 2 by the vote of node 2, and is paused. Node 2 is elected in term 3 with node
// 3's vote and commits a command with node 3's acknowledgement. Node 3 loses the end of its log and
// with it all it knew of terms 2 and 3. Node 2 is cut off, node 1 goes on: nothing it commits may
// contradict node 2.
func TestFencedReplicaDoesNotServeADeposedLeader(t *testing.T) {
	c := newCluster(t)
	c.cut[3] = true
	c.elect(1)
	old := c.cores[1].Status().Term
	c.cut[1], c.cut[3] = true, false
	for range 30 { // the others' leases of the paused leader run out
		c.cores[2].Tick()
		c.cores[3].Tick()
		c.settle()
		if c.cores[2].Status().Leader == 2 {
			break
		}
	}
	if c.cores[2].Status().Leader != 2 {
		c.elect(2)
	}
	two := &command{data: "two"}
	c.cores[2].Propose(proposals(two))
	c.settle()
	if c.done[two] == 0 {
		t.Fatal("node 2 did not commit with node 3")
	}
	c.loseWithTerm(3, 1, old-1)
	c.cut[1], c.cut[2] = false, true
	one := &command{data: "one"}
	c.cores[1].Propose(proposals(one))
	for range 5 {
		c.settle()
		c.cores[1].Tick()
	}
	c.settle()
	if c.done[one] != 0 {
		t.Errorf("%q is committed at %d by node 1 and %q at %d by node 2; applied: %v, fenced: %v",
			one.data, c.done[one], two.data, c.done[two], c.applied,
			c.cores[3].Status().Fenced)
	}
}

// The leader of the term in which the loss happened keeps counting on lost acknowledgements when
// the fenced node remembers an older term: it must get out of that by itself.
func TestFencedReplicaWithForgottenTermIsMadeWhole(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	for i := range 5 {
		c.cores[1].Propose(proposals(&command{data: fmt.Sprint(i)}))
		c.settle()
	}
	want := fmt.Sprint(c.applied[1])
	c.loseWithTerm(3, 1, c.cores[1].Status().Term-1)
	for range 500 {
		for id := range c.cores {
			c.cores[id].Tick()
		}
		c.settle()
	}
	if s := c.cores[3].Status(); s.Fenced || s.Fault != nil || fmt.Sprint(c.applied[3]) != want {
		t.Errorf("after 50 election timeouts the replica holds %v, want %s; fenced %v, fault %v",
			c.applied[3], want, s.Fenced, s.Fault)
	}
}

// The fence is lifted by a snapshot when the snapshot is durable, not when it is handed out: the
// node that lifts it on disk first and crashes comes back unfenced without the snapshot.
func TestFenceStandsUntilTheSnapshotIsDurable(t *testing.T) {
	c := newCluster(t)
	c.loseWithTerm(3, 1, 5)
	must(t, c.cores[3].Step(1, &pb.Message{Type: pb.MsgSnap.Enum(), From: new(uint64(1)),
		To: new(uint64(3)), Term: new(uint64(9)), Snapshot: &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
			Index: new(uint64(50)), Term: new(uint64(9)),
			ConfState: &pb.ConfState{Voters: []uint64{1, 2, 3}}}}}))
	for c.cores[3].HasReady() {
		rd := c.cores[3].Ready(0, 0)
		if rd.Unfenced && rd.Append != nil && rd.Append.Snapshot != nil {
			t.Error("the fence was lifted together with the append that is to make it true")
		}
	}
}
