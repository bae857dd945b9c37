package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/connectraft/connect/node"
)

// A node that has lost the end of its log, and finds that it was removed meanwhile, goes on when it is
// added again.
func TestDamagedNodeThatIsAddedAgainGoesOn(t *testing.T) {
	c := newTestCluster(t, 3, func(o *node.Options) {
		o.SegmentBytes, o.EntryBytes, o.CommandBytes = 64<<10, 16<<10, 16<<10
		o.SnapshotEntries = 20
	})
	c.ready()
	for range 40 {
		if _, err := c.groups[1].Propose(background(t), make([]byte, 8<<10)); err != nil {
			t.Fatal(err)
		}
	}
	c.add(1, 3)
	c.agree()
	c.stop(3)
	files, err := filepath.Glob(filepath.Join(c.nodeOptions(3).Dir, "wal", "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	for _, f := range files[1:] { // those with the last frames, and those prepared
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	c.change(1, node.Change{Remove: []uint64{3}})
	for id := uint64(1); id <= 2; id++ { // started behind its removal they do not refuse node 3
		for range 60 {
			c.add(id, 0)
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
