package node_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/connectraft/connect/node"
)

// await returns the next event of a kind, and everything that came before it.
func await(t *testing.T, s *node.Subscription, kind node.EventKind) (node.Event, []node.Event) {
	t.Helper()
	var before []node.Event
	deadline := time.After(waitMax)
	for {
		select {
		case e, ok := <-s.C:
			if !ok {
				t.Fatalf("the subscription ended before %s", kind)
			}
			if e.Kind == kind {
				return e, before
			}
			before = append(before, e)
		case <-deadline:
			t.Fatalf("no event %s; there were %v", kind, before)
		}
	}
}

// startWatched starts a node and returns what happens on it from the beginning.
func (c *testCluster) startWatched(id uint64) *node.Subscription {
	c.t.Helper()
	s := c.open(id).Subscribe(4096)
	c.t.Cleanup(s.Close)
	c.serve(id)
	return s
}

// TestEventsOfAGroupComeInOrder starts a group, breaks it, and expects what happened in the order
// in which it did.
func TestEventsOfAGroupComeInOrder(t *testing.T) {
	c := newTestCluster(t, 1, nil)
	c.ready()
	s := c.nodes[1].Subscribe(64)
	defer s.Close()
	begin := time.Now()
	g := c.startGroup(7, &scripted{apply: func([]byte) ([]byte, error) {
		return nil, errors.New("broken")
	}})
	_, err := g.Propose(background(t), []byte("x"))
	if node.OutcomeOf(err) != node.Unknown {
		t.Fatalf("the command that broke the group ended with %v", err)
	}
	failed, before := await(t, s, node.GroupFailed)
	var got []node.EventKind
	for _, e := range append(before, failed) {
		if e.Kind == node.SlowStage || e.Group != 7 {
			continue // whatever the machine is doing besides
		}
		if e.Time.Before(begin) || e.Time.After(time.Now()) || e.Missed != 0 {
			t.Errorf("event %+v: want a time within the test, and nothing missed", e)
		}
		if e.Kind == node.LeaderChanged && e.Peer == 0 {
			continue // the start of an election
		}
		got = append(got, e.Kind)
	}
	want := []node.EventKind{node.GroupStarted, node.LeaderChanged, node.GroupFailed}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the events were %v, want %v", got, want)
	}
	if failed.Detail == "" {
		t.Error("the failure has no reason")
	}
}

// TestSubscriberThatNeverReadsCostsNothing keeps a subscription unread over more events than it
// holds: commands go on, what had no room is counted, and the first event read after the gap says
// how wide it is.
func TestSubscriberThatNeverReadsCostsNothing(t *testing.T) {
	c := newTestCluster(t, 1, func(o *node.Options) { o.SnapshotEntries = 1 })
	c.ready()
	s := c.nodes[1].Subscribe(1)
	defer s.Close()
	c.within("events are dropped", func() bool {
		c.add(1, 1)
		return s.Dropped() >= 3
	})
	if first := <-s.C; first.Missed != 0 {
		t.Errorf("the first event says that %d were missed before it", first.Missed)
	}
	dropped := s.Dropped()
	c.within("another event", func() bool {
		c.add(1, 1)
		return len(s.C) > 0
	})
	if e := <-s.C; e.Missed < dropped {
		t.Errorf("the event behind the gap says %d were missed, want at least %d", e.Missed, dropped)
	}
}

// TestSubscriptionsEnd closes subscriptions before the node, with it and after it.
func TestSubscriptionsEnd(t *testing.T) {
	c := newTestCluster(t, 1, nil)
	c.ready()
	n := c.nodes[1]
	early, late := n.Subscribe(4), n.Subscribe(64)
	early.Close()
	early.Close()
	if _, ok := <-early.C; ok {
		t.Error("a closed subscription got an event")
	}
	c.stop(1)
	for range late.C { // ends, or the test runs into its time limit
	}
	late.Close()
	after := n.Subscribe(4)
	if _, ok := <-after.C; ok {
		t.Error("a closed node has an event")
	}
	after.Close()
}

// TestSubscriptionsAreBounded: beyond the limit a subscription is closed from the beginning.
func TestSubscriptionsAreBounded(t *testing.T) {
	c := newTestCluster(t, 1, nil)
	ended := 0
	for range 100 {
		s := c.nodes[1].Subscribe(1)
		defer s.Close()
		select {
		case _, ok := <-s.C:
			if !ok {
				ended++
			}
		default:
		}
	}
	if ended != 36 {
		t.Errorf("%d of 100 subscriptions were refused, want 36", ended)
	}
}

// TestSlowApplyIsToldToSubscribers has the state machine take longer than the limit, once.
func TestSlowApplyIsToldToSubscribers(t *testing.T) {
	c := newTestCluster(t, 1, func(o *node.Options) { o.SlowStage = time.Millisecond })
	c.ready()
	s := c.nodes[1].Subscribe(1024)
	defer s.Close()
	g := c.startGroup(3, &scripted{apply: func([]byte) ([]byte, error) {
		<-time.After(5 * time.Millisecond) // what a slow machine does
		return nil, nil
	}})
	if _, err := g.Propose(background(t), []byte("x")); err != nil {
		t.Fatal(err)
	}
	for {
		e, _ := await(t, s, node.SlowStage)
		if e.Detail != node.StageApply || e.Group != 3 {
			continue // the disk, say
		}
		if e.Took < time.Millisecond {
			t.Errorf("a step of %v was told as slow", e.Took)
		}
		return
	}
}

// TestPeersAndSnapshotsAreToldToSubscribers follows one follower through a stop and a return that
// needs a snapshot.
func TestPeersAndSnapshotsAreToldToSubscribers(t *testing.T) {
	c := newTestCluster(t, 3, func(o *node.Options) { o.SnapshotEntries = 5 })
	c.ready()
	leader, other := c.leader(), c.follower()
	third := 6 - leader - other
	s, thirds := c.nodes[leader].Subscribe(4096), c.nodes[third].Subscribe(4096)
	defer s.Close()
	defer thirds.Close()
	c.stop(other)
	if e, _ := await(t, s, node.PeerLost); e.Peer != other {
		t.Errorf("peer %d was lost, want %d", e.Peer, other)
	}
	first := c.groups[leader].Status().FirstIndex
	c.within("the log is truncated behind two snapshots", func() bool {
		c.add(leader, 1)
		return c.groups[leader].Status().FirstIndex > first+20
	})
	if e, _ := await(t, s, node.SnapshotCut); e.Index == 0 || e.Bytes == 0 {
		t.Errorf("a snapshot was cut: %+v", e)
	}
	theirs := c.startWatched(other)
	up, between := await(t, s, node.PeerUp)
	if up.Peer != other {
		t.Errorf("peer %d came up, want %d", up.Peer, other)
	}
	if slices.ContainsFunc(between, func(e node.Event) bool { return e.Kind == node.PeerLost }) {
		t.Error("the peer was lost twice")
	}
	got, _ := await(t, theirs, node.SnapshotReceived)
	if got.Peer == third { // a disk that hangs has moved the leadership
		s = thirds
	}
	sent, _ := await(t, s, node.SnapshotSent)
	restored, _ := await(t, theirs, node.SnapshotRestored)
	if sent.Peer != other || got.Index != sent.Index || restored.Index != sent.Index {
		t.Errorf("sent %+v, received %+v, restored %+v", sent, got, restored)
	}
}

// TestMembersAreToldToSubscribers brings a member back with an empty directory, and adds one.
func TestMembersAreToldToSubscribers(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	c.registered()
	leader, other := c.leader(), c.follower()
	s := c.nodes[leader].Subscribe(4096)
	defer s.Close()
	c.stop(other)
	if err := os.RemoveAll(c.nodeOptions(other).Dir); err != nil {
		t.Fatal(err)
	}
	// It reaches the others once it is watched: it is told but once that it is refused.
	addresses, links := slices.Clone(c.options.Members), map[uint64]*link{}
	for i, m := range addresses {
		if m.ID != other {
			links[m.ID] = newLink(t)
			c.options.Members[i].Address = links[m.ID].Addr().String()
		}
	}
	theirs := c.startWatched(other)
	for i, m := range addresses {
		if m.ID != other {
			links[m.ID].target.Store(&addresses[i].Address)
		}
	}
	for name, s := range map[string]*node.Subscription{"a member": s, "the refused node": theirs} {
		if e, _ := await(t, s, node.PeerRefused); !strings.Contains(e.Detail, "replace") {
			t.Errorf("%s is told %q, want what to do", name, e.Detail)
		}
	}
	m := c.change(leader, node.Change{Learn: []node.Member{c.join(4)}})
	e, _ := await(t, s, node.MembershipChanged)
	if e.Index > m.Version || e.Group != 1 || !strings.Contains(e.Detail, "learners 4") {
		t.Errorf("%+v, want learner 4 and a version up to %d", e, m.Version)
	}
}

// TestDamageIsToldToSubscribers flips a bit of one entry in the log of a node that is down.
func TestDamageIsToldToSubscribers(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	leader, other := c.leader(), c.follower()
	for i := range 10 {
		command := append(number(1), fmt.Sprintf("needle %d in the log", i)...)
		if _, err := c.groups[leader].Propose(background(t), command); err != nil {
			t.Fatal(err)
		}
	}
	c.agree()
	c.stop(other)
	c.flip(other, "needle 4 in the log")
	s := c.startWatched(other)
	damage, _ := await(t, s, node.DamageFound)
	mended, _ := await(t, s, node.DamageMended)
	_, between := await(t, s, node.GroupStarted)
	if damage.Index == 0 || damage.Detail == "" || mended.Index < damage.Index || mended.Peer == 0 {
		t.Errorf("damage %+v, mended %+v", damage, mended)
	}
	if slices.ContainsFunc(between, func(e node.Event) bool { return e.Kind == node.GroupFenced }) {
		t.Error("a group whose log was mended is fenced")
	}
	c.ready()
	c.agree()
}

// TestFencesAreToldToSubscribers takes the end from the log of a node that is down.
func TestFencesAreToldToSubscribers(t *testing.T) {
	c := newTestCluster(t, 3, smallSegments)
	c.ready()
	c.registered()
	other := c.follower()
	c.fillSegments()
	c.add(other, 3)
	want := c.agree()
	c.stop(other)
	c.loseEndOfLog(other)
	s := c.startWatched(other)
	await(t, s, node.DamageFound)
	await(t, s, node.GroupFenced)
	await(t, s, node.GroupUnfenced)
	c.ready()
	if got := c.agree(); got != want {
		t.Errorf("total %d, want %d", got, want)
	}
}
