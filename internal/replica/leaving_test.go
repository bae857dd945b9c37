package replica_test

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// newPair is a cluster of the voters 1 and 2; node 1 leads. Nobody has heard yet that node 2 has the
// entry behind what is committed, which takes its vote.
func newPair(t *testing.T, what string) (c *cluster, removal uint64) {
	c = newCluster(t)
	c.elect(1)
	_, err := c.change(1, "r3", 0)
	must(t, err)
	c.settle()
	c.hold = func(m *pb.Message) bool {
		return m.GetType() == pb.MsgAppResp && m.GetFrom() == 2
	}
	c.cores[1].ChangeMembers(&change{what: what})
	c.settle()
	removal = c.cores[1].Status().LastIndex
	for id := uint64(1); id <= 2; id++ {
		if s := c.cores[id].Status(); s.LastIndex != removal || s.Commit != removal-1 {
			t.Fatalf("node %d has %+v, want the end of the log at %d and not committed", id, s, removal)
		}
	}
	return c, removal
}

// lead2 has node 2 lead while node 1 is silent, until it has applied what takes its vote. Node 1 gets
// the first entry of node 2, and does not learn what that commits. What waits comes before it leads, and
// some more while it applies what it has committed as the leader.
func (c *cluster) lead2(removal uint64, waits, more []replica.Proposal) {
	c.t.Helper()
	c.hold = func(*pb.Message) bool { return true }
	for range 25 {
		c.cores[1].Tick()
		c.cores[2].Tick()
		c.settle()
	}
	c.hold = func(m *pb.Message) bool {
		return m.GetTo() == 1 && (m.GetCommit() >= removal || m.GetIndex() > removal)
	}
	c.cores[2].Propose(waits)
	c.beforeApplied = func(id uint64) {
		if id == 2 && more != nil {
			c.cores[2].Propose(more)
			more = nil
		}
	}
	for range 100 {
		c.cores[2].Tick()
		c.settle()
		if len(c.members[2]) == 2 {
			return
		}
	}
	c.t.Fatalf("node 2 does not apply entry %d: %+v", removal, c.cores[2].Status())
}

// crash1 has node 1 begin again with what its log holds up to last, and without knowing that the
// removal is committed.
func (c *cluster) crash1(removal, last uint64) {
	c.t.Helper()
	c.hold, c.forgets, c.network = nil, nil, nil
	state, _, err := c.stores[1].InitialState()
	must(c.t, err)
	entries, err := c.stores[1].Entries(removal, last+1, 1<<20)
	must(c.t, err)
	s := raft.NewMemoryStorage()
	must(c.t, s.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(removal - 1),
		Term: new(entries[0].GetTerm()), ConfState: &pb.ConfState{Voters: []uint64{1, 2}}}}))
	must(c.t, s.Append(entries))
	must(c.t, s.SetHardState(&pb.HardState{Term: new(state.GetTerm()), Vote: new(state.GetVote()),
		Commit: new(removal - 1)}))
	c.stores[1] = s
	c.configure = func(config *replica.Config) {
		config.Applied, config.Version = removal-1, removal-1
	}
	c.restart(1)
}

// elect1 has time pass until node 1 leads; node 2 knows that it was removed.
func (c *cluster) elect1() {
	c.t.Helper()
	for range 300 {
		c.cores[1].Tick()
		c.cores[2].TickOutside()
		c.settle()
		if c.cores[1].Status().Role == raft.StateLeader {
			return
		}
	}
	c.t.Fatalf("node 1 is never elected: it has %+v, node 2 %+v", c.cores[1].Status(),
		c.cores[2].Status())
}

func lastIndex(t *testing.T, s *raft.MemoryStorage) uint64 {
	t.Helper()
	last, err := s.LastIndex()
	must(t, err)
	return last
}

// A leader that its own log removes has nothing in it that who stays may lack: its vote is needed when
// that one starts again before it knows that the removal is committed. What waits has a definite end.
func TestRemovedLeaderVotesForWhoStays(t *testing.T) {
	for name, restarted := range map[string]bool{"as it is": false, "started again": true} {
		t.Run(name, func(t *testing.T) {
			c, removal := newPair(t, "r2")
			if restarted {
				// It knows its log by what is in it, not by having written it.
				c.configure = func(config *replica.Config) {
					config.Applied, config.Version = removal-1, removal-1
				}
				c.restart(2)
				c.members[2] = c.members[2][:1]
			}
			free, local, waits := &command{data: "f"}, &command{data: "l", local: true}, &read{}
			c.cores[2].Read([]replica.Read{waits})
			c.lead2(removal, proposals(free), proposals(local))
			queued, placed := c.cores[2].Pending()
			if len(queued) != 2 || len(placed) != 0 || free.took || local.took {
				t.Errorf("%d commands wait and %d are in the log, want 2 and none", len(queued),
					len(placed))
			}
			if reads := c.cores[2].PendingReads(); len(reads) != 1 || reads[0] != replica.Read(waits) {
				t.Errorf("%d reads wait, want 1", len(reads))
			}
			c.crash1(removal, lastIndex(t, c.stores[1]))
			c.elect1()
		})
	}
}

// The leader that stays tells the commit of a removal and goes on. When its power fails before that,
// or a command behind it, is durable it needs the vote of the one that it has removed.
func TestRemovedFollowerVotesForWhoStays(t *testing.T) {
	c, removal := newPair(t, "r2")
	p := &command{data: "a"}
	c.cores[1].Propose(proposals(p))
	c.settle()
	term := c.cores[1].Status().Term
	c.hold = func(m *pb.Message) bool {
		return m.GetType() == pb.MsgAppResp && m.GetFrom() == 2 && m.GetIndex() > removal
	}
	must(t, c.cores[1].Step(2, &pb.Message{Type: pb.MsgAppResp.Enum(), From: new(uint64(2)),
		To: new(uint64(1)), Term: new(term), Index: new(removal)}))
	c.settle()
	if len(c.members[2]) != 2 || c.done[p] <= removal {
		t.Fatalf("node 2 knows %d changes, the command is applied at %d", len(c.members[2]), c.done[p])
	}
	c.crash1(removal, removal)
	c.elect1()
}

// One that has lost its vote and stays as a learner gets what the leader appends behind that. It has
// none of it before the leader's own log has, and the commit of the change with it.
func TestDemotedFollowerVotesForWhoKeepsItsVote(t *testing.T) {
	c, demotion := newPair(t, "l2")
	c.forgets = func(id uint64, _ *replica.Append) bool { return id == 1 }
	c.hold = nil
	must(t, c.cores[1].Step(2, &pb.Message{Type: pb.MsgAppResp.Enum(), From: new(uint64(2)),
		To: new(uint64(1)), Term: new(c.cores[1].Status().Term), Index: new(demotion)}))
	c.settle()
	c.cores[1].Propose(proposals(&command{data: "a"}))
	c.settle()
	if len(c.members[2]) != 2 || c.cores[1].Status().LastIndex <= demotion {
		t.Fatalf("node 2 knows %d changes, node 1 has %+v", len(c.members[2]), c.cores[1].Status())
	}
	c.crash1(demotion, demotion)
	for range 100 {
		c.cores[1].Tick()
		c.cores[2].Tick()
		c.settle()
		if c.cores[1].Status().Role == raft.StateLeader {
			return
		}
	}
	t.Errorf("node 1 is never elected: it has %+v, node 2 %+v", c.cores[1].Status(),
		c.cores[2].Status())
}

// The first entry of a leader that goes by an old configuration is durable in its own log when it
// reaches the one that was removed: after a power cut that one must not have it alone.
func TestFirstEntryOfWhoStaysIsDurable(t *testing.T) {
	c, removal := newPair(t, "r2")
	c.lead2(removal, nil, nil)
	c.crash1(removal, lastIndex(t, c.stores[1]))
	first := false // and what is behind it
	c.forgets = func(id uint64, a *replica.Append) bool {
		first = first || id == 1 && len(a.Entries) > 0
		return id == 1 && first
	}
	c.elect1()
	c.tick()
	c.crash1(removal, lastIndex(t, c.stores[1]))
	c.elect1()
	if _, err := c.change(1, "l9", 0); err != nil {
		t.Errorf("the next change: %v", err)
	}
}

// A leader that loses its vote and stays as a learner passes on what waits.
func TestCommandsOfLeaderThatLosesItsVote(t *testing.T) {
	c, demotion := newPair(t, "l2")
	free, local := &command{data: "f"}, &command{data: "l", local: true}
	c.lead2(demotion, proposals(free), proposals(local))
	c.hold = nil
	for range 30 {
		c.tick()
	}
	if got := c.cores[2].Status(); got.Leader != 1 || !got.Learner {
		t.Fatalf("node 2 has %+v, want a learner led by node 1", got)
	}
	if len(c.forward[2]) != 1 || c.forward[2][0] != replica.Proposal(free) || free.took {
		t.Errorf("forwarded %v, want the one free command, not taken", c.forward[2])
	}
	if !errors.Is(c.lost[local], replica.ErrNotLeader) || c.unknown[local] {
		t.Errorf("the local command ended with %v", c.lost[local])
	}
}

// Commands stand behind a change when it is applied, also those that come with its last condition.
func TestCommandsWaitForAChange(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	var answers []*pb.Message
	c.hold = func(m *pb.Message) bool {
		if m.GetType() == pb.MsgHeartbeatResp {
			answers = append(answers, m)
		}
		return m.GetType() == pb.MsgHeartbeatResp || m.GetType() == pb.MsgAppResp
	}
	before := c.cores[1].Status().LastIndex
	asked, p := &change{what: "l4"}, &command{data: "a"}
	c.cores[1].ChangeMembers(asked)
	c.settle()
	for _, m := range answers {
		must(t, c.cores[1].Step(m.GetFrom(), m))
	}
	c.cores[1].Propose(proposals(p))
	c.settle()
	if got := c.cores[1].Status(); got.LastIndex != before+1 || got.Queued != 1 || p.took {
		t.Fatalf("behind the change: %+v", got)
	}
	c.hold = nil
	c.tick()
	if members, err, _ := c.end(1, asked); members == nil {
		t.Errorf("the change ended with %v", err)
	}
	if c.done[p] != before+2 {
		t.Errorf("the command is applied at %d, want %d", c.done[p], before+2)
	}
}

// Nor do commands stand behind the end of a joint configuration, which raft proposes by itself.
func TestCommandsWaitForTheEndOfAJointConfiguration(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	p := &command{data: "a"}
	c.beforeApplied = func(id uint64) {
		if id == 1 && len(c.cores[1].Members().GetVotersOutgoing()) != 0 {
			c.beforeApplied = nil
			c.hold = func(m *pb.Message) bool { return m.GetType() == pb.MsgAppResp }
			c.cores[1].Propose(proposals(p))
		}
	}
	c.cores[1].ChangeMembers(&change{what: "l2 l3"})
	c.settle()
	if got := c.cores[1].Status(); got.LastIndex != got.Version+1 || got.Queued != 1 || p.took {
		t.Fatalf("behind the end: %+v", got)
	}
	c.hold = nil
	c.tick()
	s := c.cores[1].Status()
	if len(c.cores[1].Members().GetVotersOutgoing()) != 0 || c.done[p] != s.Version+1 {
		t.Errorf("the command is applied at %d, members %v since %d", c.done[p],
			c.cores[1].Members(), s.Version)
	}
}

// An append of an old leader's entries that becomes durable behind the one that cuts them off says
// nothing about entries that come to their places: those of a leader with a change that it has not
// applied do not leave before they are durable.
func TestEntriesThatWereCutOffAreNotDurable(t *testing.T) {
	c := newCluster(t)
	n3 := c.cores[3]
	entry := func(index, term uint64, kind pb.EntryType) *pb.Entry {
		return &pb.Entry{Index: new(index), Term: new(term), Type: &kind}
	}
	var appends []*replica.Append
	step := func(from, term uint64, entries ...*pb.Entry) {
		t.Helper()
		must(t, n3.Step(from, &pb.Message{Type: pb.MsgApp.Enum(), From: new(from), To: new(uint64(3)),
			Term: new(term), Index: new(uint64(1)), LogTerm: new(uint64(1)), Entries: entries}))
		for n3.HasReady() {
			if a := n3.Ready(1, 1).Append; a != nil {
				appends = append(appends, a)
			}
		}
	}
	step(1, 2, entry(2, 2, pb.EntryNormal), entry(3, 2, pb.EntryNormal), entry(4, 2, pb.EntryNormal))
	step(2, 3)
	step(2, 3, entry(2, 3, pb.EntryConfChangeV2))
	for _, a := range appends {
		c.carry(3, replica.Ready{Append: a})
	}
	if got := n3.Status(); got.LastIndex != 2 || got.Commit != 1 || len(appends) != 3 {
		t.Fatalf("node 3 has %+v with %d appends, want the change at 2, not committed, with 3", got,
			len(appends))
	}
	c.network = nil
	c.forgets = func(_ uint64, a *replica.Append) bool { return len(a.Entries) > 0 && c.leads(3) }
	var early []*pb.Message
	c.hold = func(m *pb.Message) bool {
		if m.GetFrom() == 3 && len(m.GetEntries()) > 0 {
			early = append(early, m)
		}
		return false
	}
	for range 100 {
		for _, core := range c.cores {
			core.Tick()
		}
		c.settle()
		if c.leads(3) {
			break
		}
	}
	if !c.leads(3) || len(early) != 0 {
		t.Errorf("node 3 has %+v; messages with entries that are not durable: %v", n3.Status(), early)
	}
}

func (c *cluster) leads(id uint64) bool { return c.cores[id].Status().Role == raft.StateLeader }
