package node_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/transport"
)

// connected waits until every running node is connected to every other one.
func (c *testCluster) connected() {
	c.t.Helper()
	c.within("all running nodes are connected", func() bool {
		for id, n := range c.nodes {
			peers := n.Peers()
			for other := range c.nodes {
				up := slices.ContainsFunc(peers, func(p transport.PeerStats) bool {
					return p.ID == other && p.Connected
				})
				if other != id && !up {
					return false
				}
			}
		}
		return true
	})
}

// A node that has moved finds those that run, and they find it, although nobody has told them where
// it is: a majority of which it is one needs no help of a third member, and there may be none.
func TestMovedNodeIsFoundBeforeItIsReaddressed(t *testing.T) {
	for _, size := range []int{2, 3} {
		t.Run(fmt.Sprintf("one of %d", size), func(t *testing.T) {
			c := newTestCluster(t, size, nil)
			c.ready()
			c.connected()
			c.add(c.leader(), 1)
			led := c.leader() // one of two leads nobody any more once the other one has stopped
			moved := led%uint64(size) + 1
			c.stop(moved)
			to := c.newMember(moved)
			c.start(moved)
			if size == 3 {
				c.stop(led)
			}
			c.ready()
			if got := c.add(moved, 1); got != 2 {
				t.Errorf("total %d, want 2", got)
			}
			m := c.change(c.leader(), node.Change{Readdress: []node.Member{to}})
			if is, _ := m.Member(moved); is.Address != to.Address {
				t.Errorf("the membership has node %d at %s, want %s", moved, is.Address, to.Address)
			}
			if size == 3 {
				c.start(led)
			}
			c.ready()
			c.connected()
			if got := c.agree(); got != 2 {
				t.Errorf("total %d, want 2", got)
			}
		})
	}
}

// The leader has moved, and was told so by its own options. Its new address is for the others, one of
// which is down: it comes back with the old address in its own options, without the entry with the
// new one, and can acknowledge nothing of what the leader sends it until it finds the leader.
func TestMovedLeaderIsFoundByWhoWasDown(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	c.connected()
	moved, down := c.follower(), c.leader()
	other := slices.DeleteFunc(slices.Collect(maps.Keys(c.groups)), func(id uint64) bool {
		return id == moved || id == down
	})[0]
	c.stop(moved)
	to := c.newMember(moved)
	c.start(moved)
	c.ready()
	c.connected()
	c.stop(down)
	c.within("the node that has moved leads", func() bool {
		err := c.groups[other].Transfer(background(t), moved)
		return c.groups[moved].Status().Role == "leader" || err == nil
	})
	m := c.change(other, node.Change{Readdress: []node.Member{to}})
	c.within("the others know where it is", func() bool {
		is, _ := c.groups[other].Member(moved)
		return is.Address == to.Address && c.groups[other].Membership().Version >= m.Version
	})
	c.start(down)
	c.ready()
	c.connected()
	c.add(down, 1)
	if got := c.agree(); got != 1 {
		t.Errorf("total %d, want 1", got)
	}
}
