package node_test

import (
	"errors"
	"testing"

	"github.com/connectraft/connect/node"
)

// A node that has lost the end of its log, and finds that it was removed meanwhile, goes on when it is
// added again.
func TestDamagedNodeThatIsAddedAgainGoesOn(t *testing.T) {
	c := newTestCluster(t, 3, func(o *node.Options) {
		smallSegments(o)
		o.SnapshotEntries = 20
	})
	c.ready()
	c.fillSegments()
	c.add(1, 3)
	c.agree()
	c.stop(3)
	c.loseEndOfLog(3)
	c.change(1, node.Change{Remove: []uint64{3}})
	for id := uint64(1); id <= 2; id++ { // started behind its removal they do not refuse node 3
		for range 60 {
			c.grow(id)
		}
		c.stop(id)
		c.start(id)
	}
	c.ready()
	c.start(3)
	c.within("node 3 knows that it was removed", func() bool {
		return errors.Is(c.groups[3].Ready(), node.ErrRemoved)
	})
	c.change(1, node.Change{Learn: []node.Member{c.options.Members[2]}})
	c.ready()
	if got := c.agree(); got != 3 {
		t.Errorf("total %d, want 3", got)
	}
}
