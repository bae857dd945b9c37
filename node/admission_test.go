package node_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/connectraft/connect/node"
)

// held is a state machine whose Apply waits for release, and answers with the command; a group with
// one command under way stays as full as it is.
func held(release <-chan struct{}) *scripted {
	return &scripted{apply: func(command []byte) ([]byte, error) {
		<-release
		return command, nil
	}}
}

// startGroup starts a group beside the first one, and waits until it serves.
func (c *testCluster) startGroup(id uint64, machine *scripted) *node.Group {
	c.t.Helper()
	g, err := c.nodes[1].StartGroup(id, machine)
	if err != nil {
		c.t.Fatal(err)
	}
	c.within("the group serves", func() bool { return g.Ready() == nil })
	return g
}

// allApplied fails the test unless every call ends well.
func allApplied(t *testing.T, calls []*node.Call) {
	t.Helper()
	for _, call := range calls {
		if _, err := call.Wait(background(t)); err != nil {
			t.Error(err)
		}
	}
}

// overloaded fails the test unless err says that there was no room, and that nothing was applied.
func overloaded(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, node.ErrOverloaded) || node.OutcomeOf(err) != node.NotApplied {
		t.Errorf("%s in a full group: %v, want ErrOverloaded and not applied", what, err)
	}
}

// TestProposeWaitsForRoomAndGoDoesNot fills a group, tries every kind of call, and makes room.
func TestProposeWaitsForRoomAndGoDoesNot(t *testing.T) {
	c := newTestCluster(t, 1, func(o *node.Options) { o.InflightCommands = 4 })
	release := make(chan struct{})
	g := c.startGroup(2, held(release))
	var calls []*node.Call
	for range 4 {
		calls = append(calls, g.Go([]byte("x")))
	}
	_, err := g.Go([]byte("x")).Wait(background(t))
	overloaded(t, "Go", err)
	_, err = g.GoRead(nil, node.Stale(0)).Wait(background(t))
	overloaded(t, "GoRead", err)
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = g.Propose(short, []byte("x"))
	overloaded(t, "Propose until its context ended", err)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error does not tell that the context ended: %v", err)
	}
	_, err = g.Read(short, nil, node.Stale(0))
	overloaded(t, "Read until its context ended", err)

	var waiters sync.WaitGroup
	for range 50 {
		waiters.Go(func() {
			if _, err := g.Propose(background(t), []byte("x")); err != nil {
				t.Errorf("Propose that waited for room: %v", err)
			}
		})
	}
	close(release)
	waiters.Wait()
	allApplied(t, calls)
	c.within("nothing is in flight", func() bool { return g.Status().Inflight == 0 })
}

// TestInflightOfTheNodeBoundsAllGroups fills the process with the commands of one group.
func TestInflightOfTheNodeBoundsAllGroups(t *testing.T) {
	c := newTestCluster(t, 1, func(o *node.Options) {
		o.InflightCommands, o.NodeInflightCommands = 3, 3
	})
	release := make(chan struct{})
	g, other := c.startGroup(2, held(release)), c.startGroup(3, &scripted{})
	var calls []*node.Call
	for range 3 {
		calls = append(calls, g.Go([]byte("x")))
	}
	_, err := other.Go([]byte("x")).Wait(background(t))
	overloaded(t, "Go in another group", err)
	if n := other.Status().Inflight; n != 0 {
		t.Errorf("the refused command holds room: %d in flight", n)
	}
	var waiter sync.WaitGroup
	waiter.Go(func() {
		if _, err := other.Propose(background(t), []byte("x")); err != nil {
			t.Errorf("Propose that waited for room: %v", err)
		}
	})
	close(release)
	waiter.Wait()
	allApplied(t, calls)
}

// TestBytesInFlightAreBounded fills a group with few large commands.
func TestBytesInFlightAreBounded(t *testing.T) {
	c := newTestCluster(t, 1, func(o *node.Options) { o.InflightBytes = 1000 })
	release := make(chan struct{})
	g := c.startGroup(2, held(release))
	call := g.Go(make([]byte, 900))
	_, err := g.Go(make([]byte, 101)).Wait(background(t))
	overloaded(t, "101 bytes with room for 100", err)
	small := g.Go(make([]byte, 100))
	close(release)
	allApplied(t, []*node.Call{call, small})
}

// TestWaitingForRoomEndsWithTheGroup has callers wait for room while the group fails, and while the
// node closes.
func TestWaitingForRoomEndsWithTheGroup(t *testing.T) {
	for name, want := range map[string]error{"fails": node.ErrGroupFailed, "closes": node.ErrClosed} {
		t.Run(name, func(t *testing.T) {
			c := newTestCluster(t, 1, func(o *node.Options) { o.InflightCommands = 1 })
			release := make(chan struct{})
			g := c.startGroup(2, &scripted{apply: func([]byte) ([]byte, error) {
				<-release
				return nil, errors.New("broken")
			}})
			call := g.Go([]byte("x"))
			results := make(chan error, 3)
			for range 3 {
				go func() {
					_, err := g.Propose(context.Background(), []byte("x"))
					results <- err
				}()
			}
			c.within("all wait", func() bool { return node.Waiting(g) == 3 })
			if name == "closes" {
				closed := make(chan struct{})
				go func() {
					c.stop(1)
					close(closed)
				}()
				defer func() { <-closed }()
			} else {
				node.PanicInLoop(g)
			}
			for range 3 {
				select {
				case err := <-results:
					if !errors.Is(err, want) || node.OutcomeOf(err) != node.NotApplied {
						t.Errorf("the wait for room ended with %v, want %v", err, want)
					}
				case <-time.After(waitMax):
					t.Error("the wait for room never ended")
				}
			}
			close(release)
			_, _ = call.Wait(background(t))
		})
	}
}

// TestForwardedProposeWaitsForRoomOfTheLeader has every node propose at once, where the leader has
// room for one command: none of them is told that it is overloaded.
func TestForwardedProposeWaitsForRoomOfTheLeader(t *testing.T) {
	c := newTestCluster(t, 3, func(o *node.Options) { o.InflightCommands = 2 })
	c.ready()
	var callers sync.WaitGroup
	for _, g := range c.groups {
		for range 10 {
			callers.Go(func() {
				if _, err := g.Propose(background(t), number(1)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	callers.Wait()
	if got := c.add(c.leader(), 0); got != 30 {
		t.Errorf("the total is %d, want 30", got)
	}
}
