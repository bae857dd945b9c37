package node_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/statemachine"
)

// manyGroups is how many groups TestManyGroups creates: 10,000 take minutes.
var manyGroups = flag.Uint64("node.groups", 200, "groups of TestManyGroups")

// unmade is a group that no state machine can be made for.
const unmade = 1 << 40

func withMachines(o *node.Options) {
	o.Machines = func(group uint64) (statemachine.Machine, error) {
		if group == unmade {
			return nil, errors.New("no machine for this group")
		}
		return &sum{fail: errors.New("broken")}, nil
	}
}

// everywhere waits until a group runs on every running node.
func (c *testCluster) everywhere(group uint64, runs bool) {
	c.t.Helper()
	c.within(fmt.Sprintf("group %d runs: %v", group, runs), func() bool {
		for _, n := range c.nodes {
			g := n.Group(group)
			if runs && (g == nil || g.Ready() != nil) || !runs && g != nil {
				return false
			}
		}
		return true
	})
}

func (c *testCluster) addTo(id, group, n uint64) uint64 {
	c.t.Helper()
	r, err := c.nodes[id].Group(group).Propose(background(c.t), number(n))
	if err != nil {
		c.t.Fatalf("add on node %d to group %d: %v", id, group, err)
	}
	return total(r.Answer)
}

// Groups are created on any node and run on all of them, over restarts; a removed one is gone for
// good, also on a node that was down meanwhile.
func TestGroupsComeAndGo(t *testing.T) {
	c := newTestCluster(t, 3, withMachines)
	c.ready()
	for id := range c.nodes {
		if err := c.nodes[id].CreateGroup(background(t), 10+id); err != nil {
			t.Fatal(err)
		}
	}
	for id := range c.nodes {
		group := 10 + id
		c.everywhere(group, true)
		if got := c.addTo(id%3+1, group, id); got != id {
			t.Errorf("group %d has %d", group, got)
		}
	}
	c.stop(3)
	for group, want := range map[uint64]error{11: node.ErrGroupExists, 1: node.ErrGroupID,
		0: node.ErrGroupID, 1<<63 + 1: node.ErrGroupID} {
		if err := c.nodes[1].CreateGroup(background(t), group); !errors.Is(err, want) {
			t.Errorf("create group %d: %v, want %v", group, err, want)
		}
	}
	if err := c.nodes[2].RemoveGroup(background(t), 99); !errors.Is(err, node.ErrNoGroup) {
		t.Errorf("remove a group that never was: %v", err)
	}
	for range 2 { // it may be repeated
		if err := c.nodes[2].RemoveGroup(background(t), 12); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.nodes[1].CreateGroup(background(t), 12); !errors.Is(err, node.ErrGroupRemoved) {
		t.Errorf("create a removed group: %v", err)
	}
	if err := c.nodes[1].CreateGroup(background(t), 20); err != nil { // without node 3
		t.Fatal(err)
	}
	c.everywhere(20, true)
	c.addTo(2, 20, 5)
	c.start(3)
	c.everywhere(12, false)
	c.everywhere(20, true)
	c.restart()
	c.ready()
	for group, want := range map[uint64]uint64{11: 1, 13: 3, 20: 5} {
		c.everywhere(group, true)
		if got := c.addTo(1, group, 0); got != want {
			t.Errorf("group %d has %d after a restart, want %d", group, got, want)
		}
	}
	c.everywhere(12, false)
	for id, n := range c.nodes {
		for _, group := range node.LoggedGroups(n) {
			if group == 12 {
				t.Errorf("the log of node %d still has the removed group", id)
			}
		}
	}
}

// The catalog is part of the snapshots of group 1, and a node that is brought up by one follows it.
func TestCatalogComesWithASnapshot(t *testing.T) {
	c := newTestCluster(t, 3, func(o *node.Options) {
		withMachines(o)
		o.SnapshotEntries = 20
	})
	c.ready()
	for _, group := range []uint64{5, 6} {
		if err := c.nodes[1].CreateGroup(background(t), group); err != nil {
			t.Fatal(err)
		}
		c.everywhere(group, true)
	}
	c.stop(3)
	if err := c.nodes[1].RemoveGroup(background(t), 5); err != nil {
		t.Fatal(err)
	}
	if err := c.nodes[2].CreateGroup(background(t), 7); err != nil {
		t.Fatal(err)
	}
	for c.groups[1].Status().FirstIndex < 60 || c.groups[2].Status().FirstIndex < 60 {
		c.grow(1)
	}
	c.start(3)
	c.everywhere(5, false)
	c.everywhere(6, true)
	c.everywhere(7, true)
}

// A node crashes between the moment it learns that a group was removed and the moment its log has
// forgotten it.
func TestHalfRemovedGroupIsForgotten(t *testing.T) {
	c := newTestCluster(t, 1, withMachines)
	c.ready()
	n := c.nodes[1]
	if err := n.CreateGroup(background(t), 8); err != nil {
		t.Fatal(err)
	}
	c.everywhere(8, true)
	c.addTo(1, 8, 1)
	node.ForgetNothing(n) // from now on, as if the node were killed there
	ctx := background(t)
	if err := n.RemoveGroup(ctx, 8); err == nil {
		t.Fatal("removed although it cannot be forgotten")
	}
	c.stop(1)
	c.start(1)
	c.ready()
	c.within("the log has forgotten the group", func() bool {
		return len(node.LoggedGroups(c.nodes[1])) == 1 && c.nodes[1].Group(8) == nil
	})
}

// Commands of a group that is removed end, whatever they have come to, and other groups do not
// notice.
func TestRemovedGroupEndsItsCommands(t *testing.T) {
	c := newTestCluster(t, 3, withMachines)
	c.ready()
	for _, group := range []uint64{2, 3} {
		if err := c.nodes[1].CreateGroup(background(t), group); err != nil {
			t.Fatal(err)
		}
		c.everywhere(group, true)
	}
	var calls []*node.Call
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				for _, n := range c.nodes {
					if g := n.Group(2); g != nil {
						calls = append(calls, g.Go(number(1)), g.GoRead(nil, node.Linearizable))
					}
				}
				time.Sleep(100 * time.Microsecond) // the pace of the load
			}
		}
	})
	other := uint64(0)
	for range 20 {
		other = c.addTo(2, 3, 1)
	}
	if err := c.nodes[2].RemoveGroup(background(t), 2); err != nil {
		t.Fatal(err)
	}
	c.everywhere(2, false)
	close(stop)
	wg.Wait()
	for _, call := range calls {
		_, err := call.Wait(background(t))
		switch outcome := node.OutcomeOf(err); {
		case errors.Is(err, context.DeadlineExceeded):
			t.Fatalf("a command never ended: %v", err)
		case outcome == node.Applied, outcome == node.Unknown:
		case errors.Is(err, node.ErrGroupRemoved), errors.Is(err, node.ErrOverloaded),
			errors.Is(err, node.ErrNoLeader):
		default:
			if _, ok := errors.AsType[*node.NotLeaderError](err); !ok {
				t.Errorf("a command ended with %v", err)
			}
		}
	}
	if got := c.addTo(1, 3, 1); got != other+1 {
		t.Errorf("the other group has %d, want %d", got, other+1)
	}
}

// What cannot be started is told to whoever has created it, and harms nobody.
func TestGroupWithoutAMachine(t *testing.T) {
	c := newTestCluster(t, 1, withMachines)
	c.ready()
	if err := c.nodes[1].CreateGroup(background(t), unmade); err == nil {
		t.Error("created a group without a machine")
	}
	if err := c.nodes[1].CreateGroup(background(t), 7); err != nil {
		t.Error(err)
	}
	if err := c.nodes[1].RemoveGroup(background(t), unmade); err != nil {
		t.Error(err)
	}
}

// Many groups start, elect, serve on any node, rest, and come back with a node that starts again.
func TestManyGroups(t *testing.T) {
	c := newTestCluster(t, 3, func(o *node.Options) {
		withMachines(o)
		o.Tick = 100 * time.Millisecond
	})
	c.ready()
	begin := time.Now()
	last := 1 + *manyGroups
	forEachGroup(t, last, func(group uint64) error {
		return c.nodes[group%3+1].CreateGroup(background(t), group)
	})
	t.Logf("%d groups created after %v", *manyGroups, time.Since(begin))
	forEachGroup(t, last, func(group uint64) error {
		n := c.nodes[(group+1)%3+1]
		for n.Group(group) == nil || n.Group(group).Status().Leader == 0 {
			if time.Since(begin) > 10*time.Minute {
				return fmt.Errorf("group %d does not start on every node", group)
			}
			time.Sleep(5 * time.Millisecond) // the pace of the poll, not the wait itself
		}
		for { // a command of unknown outcome may be applied twice
			_, err := n.Group(group).Propose(background(t), number(group))
			if node.OutcomeOf(err) != node.Unknown {
				return err
			}
		}
	})
	t.Logf("every group has served after %v", time.Since(begin))
	for id, n := range c.nodes {
		poll(t, 10*time.Minute, fmt.Sprintf("every group rests on node %d", id), func() bool {
			return resting(n.Groups())
		})
	}
	t.Logf("every group rests after %v", time.Since(begin))
	forEachGroup(t, last, func(group uint64) error {
		r, err := c.nodes[group%3+1].Group(group).Read(background(t), nil, node.Linearizable)
		if got := total(r.Answer); err == nil && (got == 0 || got%group != 0) {
			err = fmt.Errorf("group %d has %d", group, total(r.Answer))
		}
		return err
	})
	t.Logf("every group was read after %v", time.Since(begin))
	begin = time.Now()
	c.stop(2)
	t.Logf("a node has stopped after %v", time.Since(begin))
	c.start(2)
	for group := uint64(1); group <= last; group++ {
		poll(t, 10*time.Minute, fmt.Sprintf("group %d serves on the node again", group), func() bool {
			g := c.nodes[2].Group(group)
			return g != nil && g.Ready() == nil
		})
	}
	t.Logf("a node has started again after %v", time.Since(begin))
}

// forEachGroup does something for the groups from 2 to last, many at a time.
func forEachGroup(t testing.TB, last uint64, do func(group uint64) error) {
	t.Helper()
	tokens := make(chan struct{}, 256)
	var wg sync.WaitGroup
	for group := uint64(2); group <= last; group++ {
		tokens <- struct{}{}
		wg.Go(func() {
			if err := do(group); err != nil {
				t.Errorf("group %d: %v", group, err)
			}
			<-tokens
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}
