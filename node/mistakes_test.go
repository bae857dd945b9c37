package node_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/node"
)

// The mistakes that drivers of raft are known for, over real files and sockets. Where the core
// alone can make one, the test is in internal/replica/mistakes_test.go; these are elsewhere:
//
//	 4  a refused change taken for accepted: TestChangesThatCannotBe and its neighbours
//	 6  read rounds after a change of leader: internal/replica
//	 7  raft's lease: internal/replica, and TestNodeThatIsAloneDoesNotClaimToBeRecent
//	12  a received snapshot removed while it waits: TestMistake12SnapshotRemovedWhileItWaits
//	13  a peer that blocks the loop: TestHungPeerCostsItsQueueAndNothingElse of transport
//	15  an old id with an empty disk: TestWipedNodeIsRefusedAndReplaced

// Mistake 1: respond only after stable storage is updated (thesis, figure 3.1): while the log
// writer stands still a follower acknowledges nothing, and applies nothing that is not on its own
// disk.
func TestMistake01AcknowledgeBeforeDurable(t *testing.T) {
	n, g, p := underFakeLeader(t)
	release := node.HoldLog(n)
	defer release()
	p.SendRaft(1, 1, []*pb.Message{appendOf(2, 1, "a")})
	eventually(t, "the core has the entry", func() bool { return g.Status().Commit == 2 })
	beats := p.heard(pb.MsgHeartbeatResp)
	eventually(t, "node 1 answers heartbeats", func() bool {
		p.heartbeat()
		return p.heard(pb.MsgHeartbeatResp) > beats
	})
	if n := p.heard(pb.MsgAppResp); n != 0 || g.Status().Applied == 2 {
		t.Errorf("%d appends acknowledged, applied %d, and nothing is durable", n,
			g.Status().Applied)
	}
	release()
	eventually(t, "the append is acknowledged and applied", func() bool {
		return p.heard(pb.MsgAppResp) > 0 && g.Status().Applied == 2
	})
}

// Mistake 2: ignoring the error of a save (etcd's raftexample): when the log takes nothing any more
// the node acknowledges nothing any more, to peers and to callers, and says that it has failed.
func TestMistake02FailedSaveIgnored(t *testing.T) {
	n, g, p := underFakeLeader(t)
	node.BreakLog(n)
	p.SendRaft(1, 1, []*pb.Message{appendOf(2, 1, "a")})
	select {
	case <-n.Done():
	case <-time.After(waitMax):
		t.Fatal("the node goes on without its log")
	}
	eventually(t, "the group has stopped", func() bool { return g.Status().Failed != "" })
	if n := p.heard(pb.MsgAppResp); n != 0 || g.Status().Applied == 2 {
		t.Errorf("%d appends acknowledged, applied %d, and the log has failed", n,
			g.Status().Applied)
	}

	c := newTestCluster(t, 1, nil)
	c.ready()
	node.BreakLog(c.nodes[1])
	if _, err := c.groups[1].Propose(background(t), number(1)); node.OutcomeOf(err) != node.Unknown {
		t.Errorf("a command that the log did not take ended with %v", err)
	}
}

// Mistakes 3 and 8: a change that is not applied again after a restart, or a membership that is not
// the one at the applied index (orion issue 392, etcd issue 13466). The nodes restart with the
// change behind their newest snapshot, then within it.
func TestMistake08RestartOnTheWrongMembership(t *testing.T) {
	c := newTestCluster(t, 3, func(o *node.Options) { o.SnapshotEntries = 20 })
	c.ready()
	c.registered()
	for c.groups[1].Status().SnapshotIndex <= 1 {
		c.grow(1)
	}
	m := c.change(1, node.Change{Add: []node.Member{c.join(4)}})
	c.within("all know the change", func() bool {
		for _, g := range c.groups {
			if g.Membership().Version != m.Version {
				return false
			}
		}
		return true
	})
	if at := c.groups[1].Status().SnapshotIndex; at >= m.Version {
		t.Fatalf("the snapshot at %d holds the change at %d already", at, m.Version)
	}
	for _, where := range []string{"behind the snapshot", "in the snapshot"} {
		c.restart()
		c.ready()
		for id, g := range c.groups {
			if got := g.Membership(); got.Version != m.Version {
				t.Errorf("%s: node %d is at version %d, want %d", where, id, got.Version, m.Version)
			} else {
				wantMembers(t, got, []uint64{1, 2, 3, 4}, nil)
			}
		}
		c.within("the change is in every snapshot", func() bool {
			c.grow(1)
			for _, g := range c.groups {
				if g.Status().SnapshotIndex < m.Version {
					return false
				}
			}
			return true
		})
	}
}

// Mistake 5: a command that vanishes on its way to the leader, or that is sent again blindly (etcd
// issue 9884): its caller learns that its fate is open, at once, and the new connection does not
// bring it again.
func TestMistake05ForwardedCommandVanishes(t *testing.T) {
	_, g, p := underFakeLeader(t)
	ended := make(chan error, 1)
	go func() {
		_, err := g.Propose(context.Background(), []byte("once"))
		ended <- err
	}()
	p.next(t)
	p.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, node.ErrUnknown) || node.AdviceOf(err).RetrySafe {
			t.Errorf("the command ended with %v, want an unknown outcome", err)
		}
	case <-time.After(waitMax):
		t.Error("the command never ended")
	}

	// One that nobody has taken is withdrawn when its caller leaves.
	alone := newTestCluster(t, 3, nil)
	alone.stop(2)
	alone.stop(3)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := alone.groups[1].Propose(short, number(1)); node.OutcomeOf(err) != node.NotApplied {
		t.Errorf("a command without a leader ended with %v, want not applied", err)
	}
}

// Mistake 9: a state machine that has applied more than the commit index on disk, which is not
// synced on its own (raft pull request 300). The copy is what a crash leaves behind: a snapshot at
// an index that the hard state does not know to be committed.
func TestMistake09AppliedBeyondTheCommitOnDisk(t *testing.T) {
	c := newTestCluster(t, 1, func(o *node.Options) { o.SnapshotEntries = 1 })
	c.ready()
	var sum uint64
	c.within("a snapshot of all there is", func() bool {
		sum = c.add(1, 1)
		for range 100 { // it is cut beside what goes on
			if s := c.groups[1].Status(); s.SnapshotIndex == s.LastIndex {
				return true
			}
			time.Sleep(time.Millisecond) // the pace of the poll
		}
		return false
	})
	crashed := filepath.Join(c.dir, "crashed")
	if err := os.CopyFS(crashed, os.DirFS(c.nodeOptions(1).Dir)); err != nil {
		t.Fatal(err)
	}
	applied := c.groups[1].Status().Applied
	c.stop(1)
	if err := os.RemoveAll(c.nodeOptions(1).Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(crashed, c.nodeOptions(1).Dir); err != nil {
		t.Fatal(err)
	}
	c.start(1)
	if got := c.groups[1].Status().Applied; got < applied {
		t.Errorf("applied %d after the restart, want at least %d", got, applied)
	}
	c.ready()
	if got := c.add(1, 1); got != sum+1 {
		t.Errorf("total %d, want %d", got, sum+1)
	}
}

// Mistake 10: a transfer of a snapshot whose end is not reported, or only its success (etcd issue
// 10225): the peer gets nothing ever after.
func TestMistake10SnapshotWithoutReport(t *testing.T) {
	taken := make(chan uint64, 1)
	g, three := besideVoters(t, func(three *fakeVoter, attempt int, index uint64) error {
		if attempt < 3 {
			return errors.New("not yet")
		}
		three.follow(index)
		select {
		case taken <- index:
		default:
		}
		return nil
	})
	select {
	case <-taken:
	case <-time.After(waitMax):
		t.Fatal("the leader has given up on the peer")
	}
	eventually(t, "the peer gets entries", func() bool {
		if _, err := g.Propose(background(t), nil); err != nil {
			t.Fatal(err)
		}
		return three.position() == g.Status().LastIndex
	})
}

// Mistake 11: a snapshot that is older than the membership of its receiver, which raft ignores
// there, so that the leader sends it for ever (raft issue 174).
func TestMistake11SnapshotOlderThanItsReceiver(t *testing.T) {
	c := newTestCluster(t, 3, func(o *node.Options) { o.SnapshotEntries = 10 })
	c.ready()
	c.registered()
	c.within("the logs begin behind snapshots", func() bool {
		c.grow(1)
		for _, g := range c.groups {
			if g.Status().FirstIndex < 5 {
				return false
			}
		}
		return true
	})
	c.change(c.leader(), node.Change{Learn: []node.Member{c.join(4)}})
	c.within("the learner has what the others have", func() bool {
		return c.groups[4].Status().Applied >= c.groups[c.leader()].Status().Commit
	})
	c.agree()
}

// Mistake 13: an apply that blocks the loop of its own group and of others (fabric issue 4199).
func TestMistake13ApplyBlocksTheLoop(t *testing.T) {
	c := newTestCluster(t, 3, func(o *node.Options) { o.Tick = 50 * time.Millisecond })
	c.ready()
	release := make(chan struct{})
	defer close(release)
	groups := map[uint64]*node.Group{}
	for id, n := range c.nodes {
		g, err := n.StartGroup(2, held(release))
		if err != nil {
			t.Fatal(err)
		}
		groups[id] = g
	}
	var leader uint64
	c.within("a leader of the second group", func() bool {
		for id, g := range groups {
			if g.Status().Role == "leader" {
				leader = id
			}
		}
		return leader != 0
	})
	groups[leader].Go([]byte("stuck"))
	term := groups[leader].Status().Term
	begin := time.Now()
	for time.Since(begin) < 3*electionTimeout(c.options) {
		c.add(leader, 1) // the other group goes on
	}
	for id, g := range groups {
		if s := g.Status(); s.Leader != leader || s.Term != term {
			t.Errorf("node %d takes %d for the leader in term %d, was %d in term %d", id, s.Leader,
				s.Term, leader, term)
		}
	}
}

func electionTimeout(o node.Options) time.Duration { return 10 * o.Tick }

// Mistake 14: ticks that wait for the disk (etcd issue 13527): a leader whose log writer stands
// still for several election timeouts goes on sending heartbeats. (A sync that takes longer than
// Options.SyncTimeout is another matter.)
func TestMistake14TicksWaitForTheDisk(t *testing.T) {
	c := newTestCluster(t, 3, func(o *node.Options) {
		o.Tick, o.SyncTimeout = 50*time.Millisecond, waitMax
	})
	c.ready()
	leader := c.leader()
	term := c.groups[leader].Status().Term
	release := node.HoldLog(c.nodes[leader])
	defer release()
	call := c.groups[leader].Go(number(1)) // goes to the log writer
	<-time.After(3 * electionTimeout(c.options))
	release()
	if _, err := call.Wait(background(t)); err != nil {
		t.Errorf("the command that waited for the disk: %v", err)
	}
	if now := c.groups[leader].Status(); now.Role != "leader" || now.Term != term {
		t.Errorf("node %d is %s in term %d, was the leader in %d", leader, now.Role, now.Term, term)
	}
}

// Mistake 15: a log that is compacted while a snapshot is on its way, so that its receiver needs
// another one as soon as it has it (etcd issue 4055).
func TestMistake15CompactionDuringATransfer(t *testing.T) {
	begun, release := make(chan uint64, 1), make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	defer letGo()
	g, three := besideVoters(t, func(three *fakeVoter, attempt int, index uint64) error {
		if attempt == 1 {
			begun <- index
		}
		<-release
		three.follow(index)
		return nil
	})
	var index uint64
	select {
	case index = <-begun:
	case <-time.After(waitMax):
		t.Fatal("no snapshot is sent")
	}
	newest := g.Status().SnapshotIndex
	eventually(t, "the leader has cut several more snapshots", func() bool {
		if _, err := g.Propose(background(t), nil); err != nil {
			t.Fatal(err)
		}
		return g.Status().SnapshotIndex > newest+30
	})
	if first := g.Status().FirstIndex; first > index+1 {
		t.Errorf("the log begins at %d while a snapshot up to %d is on its way", first, index)
	}
	letGo()
	eventually(t, "the peer has caught up and the log is truncated", func() bool {
		if _, err := g.Propose(background(t), nil); err != nil {
			t.Fatal(err)
		}
		return three.position() == g.Status().LastIndex && g.Status().FirstIndex > index+1
	})
	if n := three.attempts(); n != 1 {
		t.Errorf("%d snapshots were sent, want 1", n)
	}
}
