package node_test

import (
	"errors"
	"testing"

	"github.com/connectraft/connect/node"
)

// A node that is removed ends what it has taken, because nobody answers it and it applies nothing any
// more: here a read of an index that it will never reach, among others.
func TestCallsOfARemovedNodeEnd(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	leader := c.leader()
	g := c.groups[leader%3+1]
	waits := g.GoRead(nil, node.AtLeast(1<<40))
	c.change(leader, node.Change{Remove: []uint64{leader%3 + 1}})
	if _, err := waits.Wait(background(t)); !errors.Is(err, node.ErrRemoved) {
		t.Errorf("the read ends with %v, want ErrRemoved", err)
	}
	c.within("nothing is in flight", func() bool { return g.Status().Inflight == 0 })
}
