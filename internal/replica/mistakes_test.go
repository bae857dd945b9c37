package replica_test

import (
	"fmt"
	"io"
	"log"
	"testing"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/internal/replica"
)

// The mistakes that drivers of raft have made, as far as they are the core's to avoid. The others,
// and the same ones over real files and sockets, are in node/mistakes_test.go.

// next takes one Ready of a core without carrying it.
func (c *cluster) next(id uint64) replica.Ready {
	c.t.Helper()
	if !c.cores[id].HasReady() {
		c.t.Fatalf("node %d has nothing to do", id)
	}
	return c.cores[id].Ready(1, 1)
}

// promises reports whether a message tells a peer what must survive a crash.
func promises(m *pb.Message) bool {
	switch m.GetType() {
	case pb.MsgAppResp, pb.MsgVoteResp:
		return !m.GetReject()
	}
	return false
}

// apart checks that no promise is among the messages that leave at once, and that one to the peer
// waits for the append, which must be synced.
func (c *cluster) apart(what string, rd replica.Ready, to uint64) {
	c.t.Helper()
	for _, m := range rd.Messages {
		if promises(m) {
			c.t.Errorf("%s: %v leaves before anything is durable", what, m.GetType())
		}
	}
	waits := false
	if rd.Append != nil {
		for _, m := range rd.Append.Responses {
			waits = waits || promises(m) && m.GetTo() == to
		}
	}
	if !waits || !rd.Append.Sync {
		c.t.Errorf("%s: no promise to node %d waits for a synced append", what, to)
	}
}

// Mistake 1: the paper's "respond to RPCs only after updating stable storage" (thesis, figure 3.1).
func TestMistake01AcknowledgeBeforeDurable(t *testing.T) {
	c := newCluster(t)
	must(t, c.cores[2].Step(1, &pb.Message{Type: pb.MsgVote.Enum(), From: new(uint64(1)),
		To: new(uint64(2)), Term: new(uint64(2)), Index: new(uint64(1)), LogTerm: new(uint64(1))}))
	vote := c.next(2)
	c.apart("a vote", vote, 1)
	c.carry(2, vote)
	must(t, c.cores[2].Step(1, &pb.Message{Type: pb.MsgApp.Enum(), From: new(uint64(1)),
		To: new(uint64(2)), Term: new(uint64(2)), Index: new(uint64(1)), LogTerm: new(uint64(1)),
		Entries: []*pb.Entry{{Index: new(uint64(2)), Term: new(uint64(2))}}}))
	c.apart("an append", c.next(2), 1)

	// A leader counts its own log when it is durable, and no sooner.
	alone := newCluster(t)
	alone.cores, alone.stores = map[uint64]*replica.Replica{}, map[uint64]*raft.MemoryStorage{}
	alone.begin(1, 1)
	alone.elect(1)
	alone.cores[1].Propose(proposals(&command{data: "a"}))
	rd := alone.next(1)
	if rd.Append == nil || len(rd.Append.Entries) != 1 {
		t.Fatalf("the command is not appended: %+v", rd)
	}
	for alone.cores[1].HasReady() {
		if more := alone.next(1); more.Apply != nil {
			t.Fatalf("entry %d is handed out before it is durable", more.Apply.Entries[0].GetIndex())
		}
	}
	alone.carry(1, rd)
	alone.settle()
	if got := fmt.Sprint(alone.applied[1]); got != "[a]" {
		t.Errorf("applied %s when it was durable, want [a]", got)
	}
}

// Mistake 2: a term or a vote that is saved apart from the entries that came with it (etcd's
// raftexample ignored the error of both).
func TestMistake02StateApartFromEntries(t *testing.T) {
	c := newCluster(t)
	must(t, c.cores[2].Step(1, &pb.Message{Type: pb.MsgApp.Enum(), From: new(uint64(1)),
		To: new(uint64(2)), Term: new(uint64(7)), Index: new(uint64(1)), LogTerm: new(uint64(1)),
		Entries: []*pb.Entry{{Index: new(uint64(2)), Term: new(uint64(7))}}}))
	a := c.next(2).Append
	if a == nil || len(a.Entries) != 1 || a.State.GetTerm() != 7 || !a.Sync {
		t.Errorf("the append is %+v, want the entry and term 7 in one synced step", a)
	}
}

// Mistake 3: a change of the membership that is skipped, or not in force, when the log is applied
// again after a restart (orion issue 392).
func TestMistake03ChangeSkippedOnReplay(t *testing.T) {
	add := func(id uint64) []byte {
		data, err := proto.Marshal(&pb.ConfChangeV2{Changes: []*pb.ConfChangeSingle{{
			Type: pb.ConfChangeAddLearnerNode.Enum(), NodeId: new(id)}}})
		must(t, err)
		return data
	}
	for applied, want := range map[uint64]string{1: "[{2 [4]} {3 [4 5]}]", 2: "[{3 [4 5]}]"} {
		c := newCluster(t)
		// The configuration is the one at the applied index, as the caller must give it.
		s := raft.NewMemoryStorage()
		state := &pb.ConfState{Voters: []uint64{1, 2, 3}}
		if applied == 2 {
			state.Learners = []uint64{4}
		}
		must(t, s.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(applied),
			Term: new(uint64(1)), ConfState: state}}))
		for i := applied + 1; i <= 3; i++ {
			must(t, s.Append([]*pb.Entry{{Type: pb.EntryConfChangeV2.Enum(), Index: new(i),
				Term: new(uint64(1)), Data: add(i + 2)}}))
		}
		must(t, s.SetHardState(&pb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)),
			Commit: new(uint64(3))}))
		core, err := replica.New(replica.Config{Group: 1, ID: 2, ElectionTicks: 10,
			HeartbeatTicks: 1, Storage: s, Applied: applied, Version: applied, EntryBytes: 64,
			InflightBytes: 1 << 20, AppendsAhead: 4,
			Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}})
		must(t, err)
		c.cores[2], c.stores[2] = core, s
		type step struct {
			Index    uint64
			Learners []uint64
		}
		var steps []step
		for core.HasReady() {
			rd := c.next(2)
			if rd.Apply != nil {
				for _, m := range rd.Apply.Members {
					steps = append(steps, step{m.Index, m.ConfState.GetLearners()})
				}
			}
			c.carry(2, rd)
		}
		if got := fmt.Sprint(steps); got != want {
			t.Errorf("applied %d: the changes were %s, want %s", applied, got, want)
		}
		if got := fmt.Sprint(core.Members().GetLearners()); got != "[4 5]" {
			t.Errorf("applied %d: learners %s in force, want [4 5]", applied, got)
		}
	}
}

// Mistake 4: taking raft's nil for a change for its acceptance; raft drops a change that comes while
// another one may stand, and says so only inside the message (raft issue 354).
func TestMistake04RefusedChangeTakenForAccepted(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	// An entry of the old term that a new leader has not applied may be a change: raft refuses every
	// other one until it is.
	c.cores[1].Propose(proposals(&command{data: "a"}))
	c.settleHolding(func(m *pb.Message) bool { return m.GetType() == pb.MsgAppResp })
	c.cut[1] = true
	early, leader := &change{what: "l4"}, uint64(0)
	c.beforeApplied = func(id uint64) {
		if leader == 0 && id != 1 && c.cores[id].Status().Leader == id {
			leader = id
			c.cores[id].ChangeMembers(early)
			for c.cores[id].HasReady() {
				c.carry(id, c.cores[id].Ready(1, 1))
			}
		}
	}
	c.electOneOf(2, 3)
	c.cut[1] = false
	for range 5 {
		c.tick()
	}
	if leader == 0 {
		t.Fatal("the change was not asked for at the beginning of a term")
	}
	members, err, ends := c.end(leader, early)
	if err != nil || ends != 1 || fmt.Sprint(members.GetLearners()) != "[4]" {
		t.Errorf("the change ended %d times with %v and %v, want once, and in force", ends, members, err)
	}
}

// Mistake 6: a round of reads that nobody repeats, or that is repeated under the same id, so that a
// late answer gives an index that is too old (etcd issue 20418).
func TestMistake06LateAnswerToAReadRound(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	var answers []*pb.Message
	hold := func(m *pb.Message) bool {
		if m.GetType() == pb.MsgReadIndexResp {
			answers = append(answers, m)
			return true
		}
		return false
	}
	first, second := &read{}, &read{}
	c.cores[3].Read([]replica.Read{first})
	c.settleHolding(hold)
	p := &command{data: "a"}
	c.cores[1].Propose(proposals(p))
	c.settleHolding(hold)
	c.cores[3].Read([]replica.Read{second}) // must see the command
	for range 10 {                          // the round is repeated, for both
		c.cores[3].Tick()
		c.cores[1].Tick()
		c.settleHolding(hold)
	}
	if len(answers) < 2 || c.done[p] == 0 {
		t.Fatalf("%d answers were held back, the command is at %d", len(answers), c.done[p])
	}
	must(t, c.cores[3].Step(1, answers[0]))
	c.settleHolding(hold)
	if len(c.reads) != 0 {
		t.Errorf("a late answer confirmed %d reads, at %v", len(c.reads), c.reads)
	}
	c.cut[1] = true // and what was repeated is lost with the leader
	c.electOneOf(2, 3)
	for range 20 {
		c.cores[2].Tick()
		c.cores[3].Tick()
		c.settle()
	}
	for _, r := range []*read{first, second} {
		if index := c.reads[r]; index < c.done[p] {
			t.Errorf("a read was confirmed at %d, want at least %d", index, c.done[p])
		}
	}
}

// Mistake 7: trusting raft's lease, which a leader that was cut off goes on reading by (raft issue 166).
func TestMistake07ReadOnALeaseThatIsNone(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.cut[1] = true
	stale := &read{}
	c.cores[1].Read([]replica.Read{stale})
	c.settle()
	leader := c.electOneOf(2, 3) // the others go on; the old leader's process stands still
	c.cores[leader].Propose(proposals(&command{data: "newer"}))
	c.settle()
	again := &read{}
	c.cores[1].Read([]replica.Read{again})
	c.settle()
	for _, r := range []*read{stale, again} {
		if index, ok := c.reads[r]; ok {
			t.Errorf("a leader that was cut off confirmed a read at %d", index)
		}
	}
}

// Mistake 10: a snapshot whose end nobody reports leaves the peer without anything for ever (etcd
// issue 10225): a transfer that failed must be followed by another.
func TestMistake10SnapshotWithoutReport(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.cut[3] = true
	c.cores[1].Propose(proposals(&command{data: "a"}))
	c.settle()
	last := c.cores[1].Status().LastIndex
	for id := uint64(1); id <= 2; id++ {
		_, err := c.stores[id].CreateSnapshot(last, &pb.ConfState{Voters: []uint64{1, 2, 3}}, nil)
		must(t, err)
		must(t, c.stores[id].Compact(last))
	}
	c.cut[3] = false
	sent := 0
	for range 100 {
		c.settleHolding(func(m *pb.Message) bool {
			if m.GetType() != pb.MsgSnap {
				return false
			}
			if sent++; sent <= 2 {
				c.cores[1].SnapshotSent(3, fmt.Errorf("the transfer broke"))
				return true
			}
			c.cores[1].SnapshotSent(3, nil)
			return false
		})
		for _, core := range c.cores {
			core.Tick()
		}
	}
	c.settle()
	if got := c.cores[3].Status().Commit; sent != 3 || got < last {
		t.Errorf("%d snapshots were sent and the peer is at %d, want 3 and %d", sent, got, last)
	}
}

// settleHolding carries effects, but for messages that hold takes.
func (c *cluster) settleHolding(hold func(*pb.Message) bool) {
	c.t.Helper()
	c.hold = hold
	defer func() { c.hold = nil }()
	c.settle()
}
