package node_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/transport"
)

// A node that is removed ends what it has taken, because nobody answers it and it applies nothing any
// more: here a read of an index that it will never reach, among others.
func TestCallsOfARemovedNodeEnd(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	leader := c.leader()
	away := leader%3 + 1
	g := c.groups[away]
	waits := g.GoRead(nil, node.AtLeast(1<<40))
	c.change(leader, node.Change{Remove: []uint64{away}})
	if _, err := waits.Wait(background(t)); !errors.Is(err, node.ErrRemoved) {
		t.Errorf("the read ends with %v, want ErrRemoved", err)
	}
	c.within("nothing is in flight", func() bool { return g.Status().Inflight == 0 })
}

// The reads of a learner whose leader is gone end when nobody waits for them any more, though it takes
// it for its leader still.
func TestReadsOfAForsakenLearnerMakeRoom(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	c.change(c.leader(), node.Change{Learn: []node.Member{c.join(4)}})
	g := c.groups[4]
	c.within("the learner serves", func() bool { return g.Ready() == nil })
	for id := range uint64(3) {
		c.stop(id + 1)
	}
	var calls []*node.Call
	for range 20 {
		calls = append(calls, g.GoRead(nil, node.Linearizable))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for _, call := range calls {
		if _, err := call.Wait(ctx); err == nil {
			t.Error("a read without a majority")
		}
	}
	c.within("nothing is in flight", func() bool { return g.Status().Inflight == 0 })
}

// A removed node sees no more who comes and goes; to call a change done, because what it knew last
// has no such member, would be a lie.
func TestRemovedNodeCallsNoChangeDone(t *testing.T) {
	c := newTestCluster(t, 4, nil)
	c.ready()
	leader := c.leader()
	away := leader%4 + 1
	gone := c.groups[away]
	c.change(leader, node.Change{Remove: []uint64{away}})
	c.within("the node knows that it was removed", func() bool {
		return errors.Is(gone.Ready(), node.ErrRemoved)
	})
	c.stop(leader) // whom the removed node would ask
	stays := away%4 + 1
	other := stays%4 + 1
	five := c.join(5)
	c.change(stays, node.Change{Learn: []node.Member{five}})
	c.within("the members have let go of it: until then it could ask them", func() bool {
		for _, id := range []uint64{stays, other, 5} {
			isAway := func(p transport.PeerStats) bool { return p.ID == away }
			if slices.ContainsFunc(c.nodes[id].Peers(), isAway) {
				return false
			}
		}
		return true
	})
	for name, remove := range map[string][]uint64{"another": {5}, "another and itself": {5, away}} {
		now, err := gone.Change(background(t), node.Change{Remove: remove}, nil)
		if !errors.Is(err, node.ErrRemoved) {
			t.Errorf("%s: the change ends with %v and %v, want ErrRemoved", name, err, now)
		}
	}
	if _, err := gone.Change(background(t), node.Change{Remove: []uint64{away}}, nil); err != nil {
		t.Errorf("to be removed again: %v", err)
	}
	voters := []uint64{leader, stays, other}
	slices.Sort(voters)
	wantMembers(t, c.groups[stays].Membership(), voters, []uint64{5})
}
