package node_test

import (
	"context"
	"errors"
	"testing"

	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/statemachine"
)

// stuck is a sum that does not come back from the command "wait" until it is told to.
type stuck struct {
	sum
	entered, leave chan struct{}
}

func (s *stuck) Apply(meta statemachine.Meta, command []byte) ([]byte, error) {
	if string(command) == "wait" {
		close(s.entered)
		<-s.leave
	}
	return s.sum.Apply(meta, command)
}

// A leader that has applied nothing of its own term may know less of the members than the one before it
// has told, so no change is decided on what it says. Leadership can be handed to it, and on.
func TestNewLeaderTellsTheMembersWhenItKnows(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	late := c.follower()
	c.stop(late)
	machine := &stuck{entered: make(chan struct{}), leave: make(chan struct{})}
	g, err := c.open(late).StartGroup(1, machine)
	if err != nil {
		t.Fatal(err)
	}
	c.groups[late] = g
	c.ready()
	other := late%3 + 1
	if _, err := c.groups[other].Propose(background(t), []byte("wait")); err != nil {
		t.Fatal(err)
	}
	<-machine.entered
	nothing := node.Change{Remove: []uint64{9}}
	for led := false; !led; {
		if err := c.groups[other].Transfer(background(t), late); err != nil {
			t.Fatal(err)
		}
		term := g.Status().Term
		ctx, cancel := context.WithTimeout(t.Context(), 20*c.options.Tick)
		_, err := c.groups[other].Change(ctx, nothing, nil)
		cancel()
		if led = g.Status().Term == term; led && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the change ended with %v", err)
		}
	}
	close(machine.leave)
	c.change(other, nothing)
}
