package node_test

import (
	"errors"
	"testing"

	"github.com/connectraft/connect/node"
)

// A node that was removed before it had caught up, and is added again while it runs, serves: its
// first read, which tells that it has caught up, was ended with the removal.
func TestNodeThatIsAddedAgainBecomesReady(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	four := c.join(4)
	leader := c.leader()
	c.change(leader, node.Change{Learn: []node.Member{four}})
	c.ready()
	g := c.groups[4]
	c.change(leader, node.Change{Remove: []uint64{4}})
	c.within("node 4 knows that it was removed", func() bool {
		return errors.Is(g.Ready(), node.ErrRemoved)
	})
	node.ForgetReady(g)
	c.change(leader, node.Change{Learn: []node.Member{four}})
	c.ready()
}
