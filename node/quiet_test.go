package node_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/connectraft/connect/node"
)

const electionTicks = 10 // the default

// Groups that nobody asks anything rest on all nodes, answer as soon as they are asked, on any
// node, and rest again.
func TestIdleGroupsRest(t *testing.T) {
	c := newLinkedCluster(t, 16, 10*time.Millisecond)
	c.rest()
	total := uint64(0)
	for id := range c.nodes {
		for group := uint64(1); group <= c.groups; group++ {
			g := c.nodes[id].Group(group)
			if _, err := g.Propose(background(t), number(1)); err != nil {
				t.Fatalf("node %d group %d: %v", id, group, err)
			}
		}
		total++
		c.rest()
		for group := uint64(1); group <= c.groups; group++ {
			r, err := c.nodes[1].Group(group).Read(background(t), nil, node.Linearizable)
			if err != nil || totalOf(r) != total {
				t.Fatalf("group %d reads %d, %v, want %d", group, totalOf(r), err, total)
			}
		}
	}
	c.rest()
}

func totalOf(r node.Result) uint64 { return total(r.Answer) }

// When the node of their leader dies, or is cut off without a connection being closed, groups that
// rest elect another one. The time is counted in ticks of a node that lives, so that busy processors do
// not change it: an election timeout at most until the silence is noticed, and then as long as an
// election takes a group that does not rest. The ticks are those of the default, for a vote is synced
// before it counts: on a busy disk that alone outlasts an election timeout of much shorter ones, and
// the votes split again and again.
func TestRestingGroupElectsWithoutItsLeader(t *testing.T) {
	for name, lose := range map[string]func(*linkedCluster, uint64){
		"closed": func(c *linkedCluster, id uint64) {
			if err := c.nodes[id].Close(); err != nil {
				c.Error(err)
			}
			delete(c.nodes, id)
		},
		"cut off": func(c *linkedCluster, id uint64) {
			c.cutOff(id, true)
			n := c.nodes[id]
			c.Cleanup(func() { n.Close() })
			delete(c.nodes, id)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newLinkedCluster(t, 8, 100*time.Millisecond)
			c.rest()
			lost := c.nodes[1].Group(1).Status().Leader
			var led []uint64
			for _, g := range c.nodes[lost].Groups() {
				if g.Status().Leader == lost {
					led = append(led, g.ID())
				}
			}
			lose(c, lost)
			var some *node.Node
			for _, some = range c.nodes {
			}
			begin := node.Ticks(some)
			c.within("every group has another leader", func() bool {
				for _, group := range led {
					if lead := some.Group(group).Status().Leader; lead == lost || lead == 0 {
						return false
					}
				}
				return true
			})
			took := node.Ticks(some) - begin
			t.Logf("%d groups elected within %d ticks", len(led), took)
			// Half the votes may split once; what is tested is that nobody waits for ever.
			if took > 6*electionTicks {
				t.Errorf("took %d ticks, an election timeout is %d", took, electionTicks)
			}
			c.rest() // without the lost one
		})
	}
}

// A leader that is cut off while it rests still takes itself for the leader. It must not answer a
// linearizable read with what it has.
func TestLeaderCutOffAtRestAnswersNoRead(t *testing.T) {
	c := newLinkedCluster(t, 1, 10*time.Millisecond)
	c.rest()
	old := c.nodes[1].Group(1).Status().Leader
	g := c.nodes[old].Group(1)
	c.cutOff(old, true)
	ctx, cancel := context.WithCancel(background(t))
	defer cancel()
	early := make(chan error, 1)
	go func() {
		_, err := g.Read(ctx, nil, node.Linearizable)
		early <- err
	}()
	other := old%3 + 1
	c.within("the others have a leader", func() bool {
		lead := c.nodes[other].Group(1).Status().Leader
		return lead != old && lead != 0
	})
	if _, err := c.nodes[other].Group(1).Propose(background(t), number(7)); err != nil {
		t.Fatal(err)
	}
	for name, level := range map[string]node.ReadLevel{"linearizable": node.Linearizable,
		"lease": node.Lease, "not older than a tick": node.Stale(c.tick)} {
		short, cancelShort := context.WithTimeout(context.Background(), 200*time.Millisecond)
		if r, err := g.Read(short, nil, level); err == nil {
			t.Errorf("the cut-off leader answered %d to a read, %s", totalOf(r), name)
		}
		cancelShort()
	}
	select {
	case err := <-early:
		if err == nil {
			t.Error("the cut-off leader answered the read that began first")
		}
	default:
		cancel()
		if err := <-early; err == nil {
			t.Error("the cut-off leader answered the read that began first")
		}
	}
	c.cutOff(old, false)
	r, err := g.Read(background(t), nil, node.Linearizable)
	if err != nil || totalOf(r) != 7 {
		t.Errorf("after the cut: read %d, %v", totalOf(r), err)
	}
	c.rest()
}

// A group that fails on its leader's node is led elsewhere, although the node lives and its other
// groups rest.
func TestGroupThatFailsAtRestIsLedElsewhere(t *testing.T) {
	c := newLinkedCluster(t, 2, 10*time.Millisecond)
	c.rest()
	old := c.nodes[1].Group(2).Status().Leader
	node.PanicInLoop(c.nodes[old].Group(2))
	c.within("another node leads the group", func() bool {
		lead := c.nodes[old%3+1].Group(2).Status().Leader
		return lead != old && lead != 0
	})
	if s := c.nodes[old].Group(1).Status(); s.Failed != "" {
		t.Errorf("another group has failed too: %s", s.Failed)
	}
}

// TestNoWakeUpIsLost disturbs groups that rest or are about to, in all ways at once: commands and
// reads on any node, links that are cut in one direction and mended, nodes that start again.
// Whatever the moment, everything that is asked while a majority is connected ends, and in the end
// every group rests again with the same state everywhere.
func TestNoWakeUpIsLost(t *testing.T) {
	c := newLinkedCluster(t, 6, 5*time.Millisecond)
	rng := rand.New(rand.NewPCG(4, 9))
	totals := make([]uint64, c.groups+1)
	for range 30 {
		// Sometimes from a rest, sometimes from the way there.
		if rng.IntN(3) == 0 {
			c.rest()
		} else {
			c.pass(rng.Int64N(40)) // the groups get to any point of their way
		}
		var mend func()
		switch a, b := 1+rng.Uint64N(3), rng.Uint64N(2); rng.IntN(4) {
		case 0:
			l := c.links[[2]uint64{a, (a+b)%3 + 1}]
			l.set(true)
			mend = func() { l.set(false) }
		case 1:
			c.cutOff(a, true)
			mend = func() { c.cutOff(a, false) }
		case 2:
			c.restart(a)
		}
		if mend != nil && rng.IntN(2) == 0 {
			c.pass(rng.Int64N(30)) // the disturbance lasts for any time
			mend()
			mend = nil
		}
		if mend != nil {
			mend()
		}
		var wg sync.WaitGroup
		for group := uint64(1); group <= c.groups; group++ {
			if rng.IntN(2) == 0 {
				continue
			}
			g := c.nodes[1+rng.Uint64N(3)].Group(group)
			wg.Go(func() { totals[group] += c.addOnce(g) })
		}
		wg.Wait()
	}
	c.rest()
	for group := uint64(1); group <= c.groups; group++ {
		for id, n := range c.nodes {
			r, err := n.Group(group).Read(background(t), nil, node.Linearizable)
			if err != nil || totalOf(r) < totals[group] {
				t.Errorf("node %d group %d: read %d, %v, acknowledged are %d", id, group,
					totalOf(r), err, totals[group])
			}
		}
	}
}

// addOnce adds one, until it is known to have been added or its outcome is unknown.
func (c *linkedCluster) addOnce(g *node.Group) uint64 {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), waitMax)
		_, err := g.Propose(ctx, number(1))
		cancel()
		switch {
		case err == nil:
			return 1
		case errors.Is(err, context.DeadlineExceeded):
			c.Errorf("group %d: nothing for %v: %v", g.ID(), waitMax, err)
			return 0
		case node.OutcomeOf(err) == node.Unknown:
			return 0
		}
	}
}

func resting(groups []*node.Group) bool {
	for _, g := range groups {
		if !g.Status().Resting {
			return false
		}
	}
	return true
}
