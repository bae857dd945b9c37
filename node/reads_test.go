package node_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/connectraft/connect/node"
)

// TestReadLevelsOnEveryNode reads at every level right behind an acknowledged command.
func TestReadLevelsOnEveryNode(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	for want := uint64(1); want <= 20; want++ {
		r, err := c.groups[c.leader()].Propose(background(t), number(1))
		if err != nil {
			t.Fatal(err)
		}
		for id, g := range c.groups {
			for name, level := range map[string]node.ReadLevel{"Linearizable": node.Linearizable,
				"Lease": node.Lease, "AtLeast": node.AtLeast(r.Index)} {
				got, err := g.Read(background(t), nil, level)
				if err != nil || total(got.Answer) != want || got.Index < r.Index {
					t.Fatalf("node %d at level %s: total %d at %d, %v, want %d at %d", id, name,
						total(got.Answer), got.Index, err, want, r.Index)
				}
			}
			if _, err := g.Read(background(t), nil, node.Stale(time.Second)); err != nil {
				t.Fatalf("node %d at level Stale: %v", id, err)
			}
		}
	}
}

// A node that is alone answers from its present state when it is asked for that, and does not claim
// that it is recent.
func TestNodeThatIsAloneDoesNotClaimToBeRecent(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	c.add(c.leader(), 7)
	c.agree()
	alone := c.follower()
	c.stopAllBut(alone)
	g := c.groups[alone]
	if r, err := g.Read(background(t), nil, node.Stale(0)); err != nil || total(r.Answer) != 7 {
		t.Errorf("present state: %d, %v, want 7", total(r.Answer), err)
	}
	if _, err := g.Read(background(t), nil, node.Stale(time.Hour)); err != nil {
		t.Errorf("a round within the hour: %v", err)
	}
	for name, level := range map[string]node.ReadLevel{"Linearizable": node.Linearizable,
		"Lease": node.Lease, "Stale": node.Stale(time.Nanosecond)} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := g.Read(ctx, nil, level); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("level %s: %v, want no answer", name, err)
		}
		cancel()
	}
}

// Reads that wait for an index that is never reached give their room back when their waiters leave.
func TestReadsAtAnIndexLeaveWithTheirWaiters(t *testing.T) {
	c := newTestCluster(t, 1, nil)
	c.ready()
	g := c.groups[1]
	ctx, cancel := context.WithCancel(t.Context())
	var calls []*node.Call
	for i := range uint64(100) {
		calls = append(calls, g.GoRead(nil, node.AtLeast(1<<40-i)))
	}
	soon := g.GoRead(nil, node.AtLeast(g.Status().Applied+1))
	c.add(1, 1)
	if r, err := soon.Wait(background(t)); err != nil || total(r.Answer) != 1 {
		t.Errorf("the read at the next index: %d, %v", total(r.Answer), err)
	}
	cancel()
	for _, call := range calls {
		if _, err := call.Wait(ctx); !errors.Is(err, context.Canceled) ||
			!errors.Is(err, node.ErrBehind) {
			t.Fatalf("a read that waits: %v", err)
		}
	}
	c.within("nothing is in flight", func() bool { return g.Status().Inflight == 0 })
}
