package replica_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"testing"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// lose gives a node's core a log that ends at index last, as after the loss of its end.
func (c *cluster) lose(id, last uint64) {
	old := c.stores[id]
	state, _, err := old.InitialState()
	must(c.t, err)
	entries, err := old.Entries(2, last+1, 1<<30)
	must(c.t, err)
	s := raft.NewMemoryStorage()
	must(c.t, s.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)),
		Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: []uint64{1, 2, 3}}}}))
	must(c.t, s.Append(entries))
	must(c.t, s.SetHardState(&pb.HardState{Term: new(state.GetTerm() + 1), Vote: new(uint64(0)),
		Commit: new(uint64(1))}))
	core, err := replica.New(replica.Config{Group: 1, ID: id, ElectionTicks: 10, HeartbeatTicks: 1,
		Storage: s, Applied: 1, Version: 1, EntryBytes: 64, InflightBytes: 1 << 20, AppendsAhead: 4,
		ReadSeed: id << 40, Fence: state.GetTerm(),
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}})
	must(c.t, err)
	c.cores[id], c.stores[id], c.applied[id] = core, s, nil
}

func TestFencedReplicaNeitherVotesNorCampaigns(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.lose(3, 1)
	vote := &pb.Message{Type: pb.MsgVote.Enum(), From: new(uint64(2)), To: new(uint64(3)),
		Term: new(uint64(9)), Index: new(uint64(99)), LogTerm: new(uint64(9))}
	if err := c.cores[3].Step(2, vote); !errors.Is(err, replica.ErrRefused) {
		t.Errorf("a fenced replica took a request for its vote: %v", err)
	}
	for range 100 {
		c.cores[3].Tick()
	}
	for c.cores[3].HasReady() {
		if rd := c.cores[3].Ready(0, 0); len(rd.Messages) != 0 {
			t.Errorf("a fenced replica sent %v", rd.Messages)
		}
	}
}

// The leader counts on acknowledgements that the fenced replica has forgotten. It steps down, the
// next one asks what the replica holds, and the replica gets everything again.
func TestFencedReplicaIsMadeWhole(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	for i := range 5 {
		c.cores[1].Propose(proposals(&command{data: fmt.Sprint(i)}))
		c.settle()
	}
	want := fmt.Sprint(c.applied[1])
	term := c.cores[1].Status().Term
	c.lose(3, 2)
	for range 200 {
		for id := range c.cores {
			c.cores[id].Tick()
		}
		c.settle()
		if !c.cores[3].Status().Fenced {
			break
		}
	}
	s := c.cores[3].Status()
	if s.Fenced || s.Leader == 3 || s.Leader == 0 || s.Term <= term {
		t.Fatalf("the fenced replica did not get out: %+v", s)
	}
	c.cores[s.Leader].Tick()
	c.settle()
	if got := fmt.Sprint(c.applied[3]); got != want {
		t.Errorf("the replica holds %s, want %s", got, want)
	}
}

func TestHandOverMovesTheLeadership(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	to := c.cores[1].HandOver()
	if to != 2 && to != 3 {
		t.Fatalf("handed over to %d", to)
	}
	c.settle()
	if got := c.cores[1].Status().Leader; got != to {
		t.Errorf("leader is %d, want %d", got, to)
	}
	if c.cores[1].HandOver() != 0 {
		t.Error("a follower handed the leadership over")
	}
}
