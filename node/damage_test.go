package node_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/connectraft/connect/node"
)

// smallSegments makes the log of segments that a few commands fill.
func smallSegments(o *node.Options) {
	o.SegmentBytes, o.EntryBytes, o.CommandBytes = 64<<10, 16<<10, 16<<10
}

// fillSegments has every node write several small segments, and changes no total.
func (c *testCluster) fillSegments() {
	c.t.Helper()
	g := c.groups[c.leader()]
	for range 40 {
		if _, err := g.Propose(background(c.t), make([]byte, 8<<10)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// segments returns the files of a node's log, oldest first.
func (c *testCluster) segments(id uint64) []string {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.nodeOptions(id).Dir, "wal", "*.wal"))
	if err != nil {
		c.t.Fatal(err)
	}
	slices.Sort(files)
	return files
}

// loseEndOfLog takes all files but the first from the log of a node that is down: those with its
// last frames, and the one prepared.
func (c *testCluster) loseEndOfLog(id uint64) {
	c.t.Helper()
	files := c.segments(id)
	if len(files) < 4 {
		c.t.Fatalf("the log of node %d has no end to lose: %v", id, files)
	}
	for _, file := range files[1:] {
		if err := os.Remove(file); err != nil {
			c.t.Fatal(err)
		}
	}
}

// flip inverts one bit in the place where some text stands in the log of a node that is down.
func (c *testCluster) flip(id uint64, text string) {
	c.t.Helper()
	files := c.segments(id)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			c.t.Fatal(err)
		}
		at := bytes.Index(b, []byte(text))
		if at < 0 {
			continue
		}
		b[at] ^= 1
		if err := os.WriteFile(file, b, 0o600); err != nil {
			c.t.Fatal(err)
		}
		return
	}
	c.t.Fatalf("%q is in none of %v", text, files)
}

// A group whose log begins behind a snapshot says what is missing when the snapshots are gone.
func TestMissingSnapshotsAreTold(t *testing.T) {
	c := newTestCluster(t, 1, func(o *node.Options) { o.SnapshotEntries = 5 })
	c.ready()
	c.within("the log begins behind a snapshot", func() bool {
		c.add(1, 1)
		return c.groups[1].Status().FirstIndex > 2
	})
	c.stop(1)
	if err := os.RemoveAll(filepath.Join(c.dir, "1", "snap")); err != nil {
		t.Fatal(err)
	}
	n := c.open(1)
	_, err := n.StartGroup(1, &sum{})
	const want = "no usable snapshot reaches it: there is none"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("started with %v, want an error with %q", err, want)
	}
}
