package replica_test

import (
	"slices"
	"testing"

	"github.com/connectraft/connect/internal/replica"
)

func everybody(uint64) bool { return true }

// idle lets time pass until a fresh cluster has come to rest: the followers learn of the commit
// index, the leader hears them, and they would vote.
func (c *cluster) idle() {
	for range 11 {
		c.tick()
	}
	c.tick() // a leader forgets whom it has heard every ten ticks
}

// A leader may rest when its followers have everything and nothing is under way, and a follower
// rests only in the very state that the leader names.
func TestRest(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.idle()
	rest, ok := c.cores[1].Rest(everybody)
	if !ok || len(rest.Peers) != 2 {
		t.Fatalf("an idle leader rests with %v, %v", rest, ok)
	}
	for _, id := range rest.Peers {
		if !c.cores[id].RestsWith(1, rest.Term, rest.Index) {
			t.Errorf("follower %d does not rest", id)
		}
		for _, wrong := range [][3]uint64{{3, rest.Term, rest.Index},
			{1, rest.Term + 1, rest.Index},
			{1, rest.Term, rest.Index + 1}, {1, rest.Term, rest.Index - 1}} {
			if id != wrong[0] && c.cores[id].RestsWith(wrong[0], wrong[1], wrong[2]) {
				t.Errorf("follower %d rests with %v", id, wrong)
			}
		}
		if _, ok := c.cores[id].Rest(everybody); ok {
			t.Errorf("follower %d rests as a leader", id)
		}
	}
	if c.cores[1].RestsWith(1, rest.Term, rest.Index) {
		t.Error("the leader rests as a follower")
	}
}

// A leader rests without a member that does not live, but not without a majority, nor with one that
// lives and has not been heard.
func TestRestNeedsAMajority(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.idle()
	only := func(live ...uint64) func(uint64) bool {
		return func(id uint64) bool { return slices.Contains(live, id) }
	}
	if rest, ok := c.cores[1].Rest(only(2)); !ok || len(rest.Peers) != 1 || rest.Peers[0] != 2 {
		t.Errorf("with one follower: %v, %v", rest, ok)
	}
	if _, ok := c.cores[1].Rest(only()); ok {
		t.Error("rests alone of three")
	}
}

// Whatever is under way keeps a leader awake.
func TestNoRestWhileSomethingIsUnderWay(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.idle()
	c.cut[1] = true
	c.cores[1].Propose([]replica.Proposal{&command{data: "a"}})
	if _, ok := c.cores[1].Rest(everybody); ok {
		t.Error("rests with a command in the queue")
	}
	c.settle()
	if _, ok := c.cores[1].Rest(everybody); ok {
		t.Error("rests with a command on its way")
	}
}
