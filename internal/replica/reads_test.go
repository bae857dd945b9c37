package replica_test

import (
	"io"
	"log"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// TestSingleVoterReadsWhatItHadAcknowledged restarts a group of one voter whose last commit index
// was not synced, which is allowed, and reads at the first moment it leads.
func TestSingleVoterReadsWhatItHadAcknowledged(t *testing.T) {
	c := newCluster(t)
	s := raft.NewMemoryStorage()
	must(t, s.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)),
		Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: []uint64{1}}}}))
	must(t, s.Append([]*pb.Entry{{Type: pb.EntryNormal.Enum(), Index: new(uint64(2)),
		Term: new(uint64(1))}}))
	must(t, s.SetHardState(&pb.HardState{Term: new(uint64(1)), Vote: new(uint64(1)),
		Commit: new(uint64(1))}))
	core, err := replica.New(replica.Config{Group: 1, ID: 1, ElectionTicks: 10, HeartbeatTicks: 1,
		Storage: s, Applied: 1, Begins: true, EntryBytes: 64, InflightBytes: 1 << 20, AppendsAhead: 4,
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}})
	must(t, err)
	c.cores, c.stores[1] = map[uint64]*replica.Replica{1: core}, s

	early := &read{}
	core.Read([]replica.Read{early})
	must(t, core.Campaign())
	for range 100 {
		for core.HasReady() {
			c.carry(1, core.Ready(0, 0))
		}
	}
	if index, ok := c.reads[early]; !ok || index < 2 {
		t.Fatalf("the read is confirmed at index %d (%v), want at least 2", index, ok)
	}
}

// A learner asks the only voter, which has just restarted, as above.
func TestSingleVoterTellsLearnersWhatItHadAcknowledged(t *testing.T) {
	c := newCluster(t)
	delete(c.cores, 3)
	delete(c.cores, 2)
	s := raft.NewMemoryStorage()
	must(t, s.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)),
		Term:      new(uint64(1)),
		ConfState: &pb.ConfState{Voters: []uint64{1}, Learners: []uint64{2}}}}))
	must(t, s.Append([]*pb.Entry{{Type: pb.EntryNormal.Enum(), Index: new(uint64(2)),
		Term: new(uint64(1))}}))
	must(t, s.SetHardState(&pb.HardState{Term: new(uint64(1)), Vote: new(uint64(1)),
		Commit: new(uint64(1))}))
	c.stores[1] = s
	c.configure = func(config *replica.Config) { config.Begins = true }
	c.restart(1)
	must(t, c.cores[1].Campaign())
	asked := &pb.Message{Type: pb.MsgReadIndex.Enum(), From: new(uint64(2)), To: new(uint64(1)),
		Entries: []*pb.Entry{{Data: make([]byte, 8)}}}
	for range 100 {
		must(t, c.cores[1].Step(2, asked)) // at every moment
		for c.cores[1].HasReady() {
			must(t, c.cores[1].Step(2, asked))
			rd := c.cores[1].Ready(0, 0)
			for _, m := range rd.Messages {
				if m.GetType() != pb.MsgReadIndexResp {
					continue
				}
				if m.GetIndex() < 2 {
					t.Fatalf("the learner is told index %d, want at least 2", m.GetIndex())
				}
				return
			}
			c.carry(1, rd)
		}
	}
	t.Error("the learner is not answered")
}

// ask has a node answer a read, if it can without hearing of anybody.
func (c *cluster) ask(id uint64, freshness replica.Freshness) (index uint64, ok bool) {
	r := &read{freshness: freshness}
	c.cores[id].Read([]replica.Read{r})
	for c.cores[id].HasReady() {
		rd := c.cores[id].Ready(0, c.mono)
		rd.Messages = nil
		c.carry(id, rd)
	}
	index, ok = c.reads[r]
	return index, ok
}

var leased = replica.Freshness{Leased: true}

// leading is a cluster whose leader has a lease.
func leading(t *testing.T) *cluster {
	c := newCluster(t)
	c.elect(1)
	r := &read{}
	c.cores[1].Read([]replica.Read{r})
	c.settle()
	if _, ok := c.reads[r]; !ok {
		t.Fatal("no round was confirmed")
	}
	return c
}

func TestLeaderAnswersUnderItsLease(t *testing.T) {
	c := leading(t)
	if index, ok := c.ask(1, leased); !ok || index != c.cores[1].Status().Commit {
		t.Errorf("the leader answered at %d (%v), want %d", index, ok, c.cores[1].Status().Commit)
	}
	if _, ok := c.ask(1, replica.Freshness{}); ok {
		t.Error("a linearizable read was answered under the lease")
	}
	if _, ok := c.ask(2, leased); ok {
		t.Error("a follower answered without a round")
	}
}

// The lease ends with its time, and with everything that could let another node lead earlier.
func TestWhatTheLeaseDoesNotSurvive(t *testing.T) {
	for name, end := range map[string]func(*cluster){
		"its time": func(c *cluster) { c.mono += int64(lease) },
		"a transfer": func(c *cluster) {
			c.cut[2], c.cut[3] = true, true
			must(c.t, c.cores[1].Transfer(2))
		},
		"a transfer that has failed": func(c *cluster) {
			c.cut[2] = true
			must(c.t, c.cores[1].Transfer(2))
			for range 12 {
				c.settle()
				c.tick()
			}
			r := &read{}
			c.cores[1].Read([]replica.Read{r})
			c.settle()
			if _, ok := c.reads[r]; !ok || len(c.transferred) != 1 {
				c.t.Fatalf("after the transfer: confirmed %v, ends %v", ok, c.transferred)
			}
		},
		"a change of the membership": func(c *cluster) {
			_, err := c.change(1, "l4", 0)
			must(c.t, err)
		},
		"a message of a higher term": func(c *cluster) {
			must(c.t, c.cores[1].Step(2, &pb.Message{Type: pb.MsgAppResp.Enum(),
				From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(9))}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := leading(t)
			end(c)
			if _, ok := c.ask(1, leased); ok {
				t.Error("the lease still answers")
			}
		})
	}
}

// Half way to its end the lease is renewed, so that reads never wait for a round.
func TestLeaseIsRenewedWhileItIsUsed(t *testing.T) {
	c := leading(t)
	for range 10 {
		c.mono += int64(lease) * 2 / 3
		r := &read{freshness: leased}
		c.cores[1].Read([]replica.Read{r})
		if rd := c.cores[1].Ready(0, c.mono); len(rd.Reads) != 1 {
			t.Fatal("the read waits for a round")
		} else {
			c.carry(1, rd)
		}
		c.settle()
	}
}

// A read with an age is answered from the newest round of this very node: on followers too, and not
// at all on a node that is cut off for longer.
func TestReadFromARecentRound(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	r := &read{}
	c.cores[2].Read([]replica.Read{r})
	c.settle()
	second := replica.Freshness{MaxAge: time.Second}
	c.mono += int64(time.Second)
	if index, ok := c.ask(2, second); !ok || index != c.reads[r] {
		t.Errorf("answered at %d (%v), want %d", index, ok, c.reads[r])
	}
	c.mono++
	if _, ok := c.ask(2, second); ok {
		t.Error("answered from a round that is too old")
	}
	if _, ok := c.ask(3, second); ok {
		t.Error("answered without a round of its own")
	}
}

func TestRestartedReplicaVotesForNobodyAtFirst(t *testing.T) {
	vote := func(term uint64, context []byte) *pb.Message {
		return &pb.Message{Type: pb.MsgVote.Enum(), From: new(uint64(2)), To: new(uint64(3)),
			Term: new(term), Index: new(uint64(9)), LogTerm: new(uint64(9)), Context: context}
	}
	votes := func(c *cluster, m *pb.Message) bool {
		c.t.Helper()
		must(c.t, c.cores[3].Step(2, m))
		for c.cores[3].HasReady() {
			c.carry(3, c.cores[3].Ready(0, 0))
		}
		given := len(c.network) > 0
		c.network = nil
		return given
	}
	c := newCluster(t)
	c.restart(3)
	if votes(c, vote(5, nil)) {
		t.Error("it voted at once")
	}
	if !votes(c, vote(6, []byte("CampaignTransfer"))) {
		t.Error("it did not vote for the target of a transfer")
	}
	c.restart(3)
	for range 10 {
		c.cores[3].Tick()
	}
	if !votes(c, vote(7, nil)) {
		t.Error("it did not vote after an election timeout")
	}
	if c.begin(3, 1, 2, 3); !votes(c, vote(5, nil)) {
		t.Error("a replica of a new group did not vote at once")
	}
	heartbeat := &pb.Message{Type: pb.MsgHeartbeat.Enum(), From: new(uint64(1)), To: new(uint64(3)),
		Term: new(uint64(5))}
	must(t, c.cores[3].Step(1, heartbeat))
	if err := c.cores[3].Campaign(); err == nil {
		t.Error("it campaigned while a leader had its promise")
	}
}
