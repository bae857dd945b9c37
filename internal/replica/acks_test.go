package replica_test

import (
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// That what may wait leads to nothing, cluster.unawaited asks of every step of every test here. These
// are the cases in which something must not wait.

// Raft takes no more uncommitted bytes until entries are acknowledged as applied.
func TestStalledLeaderAwaitsApplied(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.settle()
	half := strings.Repeat("x", 600<<10) // of what may be uncommitted
	first, second := &command{data: half}, &command{data: half}
	awaited := false
	c.beforeApplied = func(id uint64) { awaited = awaited || id == 1 && c.cores[1].AwaitsApplied() }
	c.cores[1].Propose(proposals(first))
	ready := c.cores[1].Ready(0, c.mono)
	c.cores[1].Propose(proposals(second))
	for c.cores[1].HasReady() {
		c.carry(1, c.cores[1].Ready(0, c.mono))
	}
	c.carry(1, ready)
	c.settle()
	if !awaited {
		t.Error("the leader waited for no acknowledgement of the first command")
	}
	if c.done[first] == 0 || c.done[second] == 0 {
		t.Errorf("completed at %d and %d", c.done[first], c.done[second])
	}
	if c.cores[1].AwaitsApplied() {
		t.Error("the leader still waits, with nothing to propose")
	}
}

// Raft hands out so many bytes to be applied and no more.
func TestManyBytesToApplyAreAwaited(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.settle()
	awaited := map[uint64]bool{}
	c.beforeApplied = func(id uint64) { awaited[id] = awaited[id] || c.cores[id].AwaitsApplied() }
	c.cores[1].Propose(proposals(&command{data: strings.Repeat("x", 5<<20)}))
	c.settle()
	for id, core := range c.cores {
		if !awaited[id] {
			t.Errorf("node %d waited for no acknowledgement of 5 MiB", id)
		}
		if core.AwaitsApplied() {
			t.Errorf("node %d still waits", id)
		}
	}
}

// A transfer waits for the answer of the member that shall lead, whatever it says.
func TestTransferAwaitsAnswers(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.settle()
	leader := c.cores[1]
	if got, want := leader.Settled(), leader.Status().Commit; got != want {
		t.Errorf("settled %d, want the commit index %d", got, want)
	}
	if got := c.cores[2].Settled(); got != 0 {
		t.Errorf("settled %d on a follower, which gets no answers", got)
	}
	c.cut[3] = true
	must(t, leader.Transfer(3))
	c.carryAll()
	if got := leader.Settled(); got != 0 {
		t.Errorf("settled %d during a transfer", got)
	}
}

// With the answer of a member that is probed, entries go out to it that nobody else may be there for.
func TestProbingLeaderAwaitsAnswers(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.settle()
	leader, large := c.cores[1], strings.Repeat("x", 200) // more than a message to be filled up
	committed, open := &command{data: large}, &command{data: large}
	c.cut[3] = true
	leader.Propose(proposals(committed))
	c.settle()
	c.cut[2] = true
	leader.Propose(proposals(open))
	c.settle()
	c.cut[3] = false
	leader.Unreachable(3)
	if got := leader.Settled(); got != 0 {
		t.Errorf("settled %d while a member is probed", got)
	}
	c.tick()
	if c.done[open] == 0 {
		t.Error("the member that is back has not got the last command")
	}
	c.cut[2] = false
	for range 3 {
		c.tick()
	}
	if got, want := leader.Settled(), leader.Status().Commit; got != want {
		t.Errorf("settled %d, want the commit index %d", got, want)
	}
}

// A leader that is elected in a joint configuration leaves it when its first entry is applied.
func TestLeaderOfAJointConfigurationAwaitsApplied(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.hold = func(m *pb.Message) bool {
		return slices.ContainsFunc(m.GetEntries(), func(e *pb.Entry) bool {
			return e.GetType() == pb.EntryConfChangeV2 && len(e.GetData()) == 0
		})
	}
	c.cores[1].ChangeMembers(&change{what: "l4 l5"})
	c.settle()
	c.tick() // the entry that tells that it is committed is lost, a heartbeat is not
	if len(c.cores[2].Members().GetVotersOutgoing()) == 0 {
		t.Fatal("the configuration is not joint")
	}
	c.hold, c.cut[1] = nil, true
	c.electOneOf(2, 3)
}

// Raft takes the acknowledgement of an append of a term before for none: that of the next append
// counts, with which entries are known to be durable that are committed.
func TestAppendOfAnOlderTermIsStillAwaited(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.settle()
	follower, before := c.cores[2], c.cores[2].Status()
	step := func(from, term, index uint64, entries ...*pb.Entry) *replica.Append {
		t.Helper()
		must(t, follower.Step(from, &pb.Message{Type: pb.MsgApp.Enum(), From: new(from),
			To: new(uint64(2)), Term: new(term), LogTerm: new(before.Term), Index: new(index),
			Commit: new(index), Entries: entries}))
		return follower.Ready(0, c.mono).Append
	}
	own := func(a *replica.Append) {
		for _, m := range a.Responses {
			if m.GetTo() == 2 {
				follower.Ack(m)
			}
		}
		follower.Appended()
	}
	entry := &pb.Entry{Index: new(before.LastIndex + 1), Term: new(before.Term)}
	first := step(1, before.Term, before.LastIndex, entry)
	second := step(3, before.Term+1, before.LastIndex+1)
	c.persist(2, first)
	own(first)
	if !follower.AwaitsAppended() {
		t.Error("no acknowledgement is awaited, and a committed entry is not known to be durable")
	}
	c.persist(2, second)
	own(second)
	if !follower.HasReady() {
		t.Error("the entry is not handed out to be applied")
	}
}

// Raft hands out nothing behind a small entry as long as it is not acknowledged when the next one is
// too large to be handed out with it.
func TestSmallEntryBeforeLargeOneIsAwaited(t *testing.T) {
	c := newCluster(t)
	c.configure = func(config *replica.Config) { config.InflightBytes = 64 << 20 }
	for id := range c.cores {
		c.begin(id, 1, 2, 3)
	}
	c.elect(1)
	small, large := &command{data: "x"}, &command{data: strings.Repeat("x", 17<<20)}
	c.hold = func(m *pb.Message) bool { return m.GetType() == pb.MsgAppResp }
	c.cores[1].Propose(proposals(small, large))
	c.settle()
	c.hold = nil // both are committed by one answer
	c.tick()
	c.tick()
	if c.done[small] == 0 || c.done[large] == 0 {
		t.Errorf("completed at %d and %d", c.done[small], c.done[large])
	}
}

// Raft sends a member the rest of what was proposed at once when it answers the first part, also when
// that is committed by then.
func TestRestOfLargeProposalAwaitsAnswers(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.settle()
	large := strings.Repeat("x", 200) // more than a message to be filled up
	first, second, third := &command{data: large}, &command{data: large}, &command{data: large}
	var slow []*pb.Message // answers of node 3
	parts := 0             // for node 2, which gets no more than one
	c.hold = func(m *pb.Message) bool {
		if m.GetType() == pb.MsgAppResp && m.GetFrom() == 3 {
			slow = append(slow, m)
			return true
		}
		if m.GetType() == pb.MsgApp && m.GetTo() == 2 {
			parts++
			return parts > 1
		}
		return false
	}
	c.cores[1].Propose(proposals(first, second, third))
	c.settle()
	if c.done[first] == 0 || c.done[second] != 0 {
		t.Fatalf("completed at %d and %d", c.done[first], c.done[second])
	}
	c.hold, c.cut[2] = nil, true
	c.network = append(c.network, slow...)
	c.settle()
	if c.done[second] == 0 || c.done[third] == 0 {
		t.Errorf("completed at %d and %d", c.done[second], c.done[third])
	}
}
