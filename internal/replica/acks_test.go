package replica_test

import (
	"strings"
	"testing"
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
