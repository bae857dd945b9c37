package main_test

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/proctest"
)

// wholeWithin is how long a damaged node may take until it serves again.
const wholeWithin = 10 * time.Second

// damagedCluster runs three nodes over small segments and acknowledges increments until the log of
// every node has several segments.
func damagedCluster(t *testing.T) (c *proctest.Cluster, acknowledged int64) {
	t.Helper()
	c = proctest.New(t, proctest.Build(t, "."), 3, "[log]\nsegment = \"64KiB\"\n[limits]\nentry = \"16KiB\"\ncommand = \"16KiB\"\n")
	c.StartAll()
	c.Ready(waitMax)
	var done, tried atomic.Int64
	for len(segments(t, c.Nodes[0])) < 4 {
		var clients sync.WaitGroup
		for _, n := range c.Nodes {
			clients.Go(func() { increment(n.Client, &done, &tried) })
		}
		clients.Wait()
		if tried.Load() > 100_000 {
			t.Fatal("the log does not grow")
		}
	}
	if done.Load() != tried.Load() {
		t.Fatalf("%d of %d increments were acknowledged", done.Load(), tried.Load())
	}
	return c, done.Load()
}

// segments returns the files of a node's log that hold frames, the oldest first.
func segments(t *testing.T, n *proctest.Node) (files []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(n.Dir, "wal", "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if used(t, name) > 0 {
			files = append(files, name)
		}
	}
	return files
}

// used returns how far a segment is written: segments are filled with zeros ahead of use.
func used(t *testing.T, file string) int {
	t.Helper()
	b, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return 0 // removed meanwhile
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(bytes.TrimRight(b, "\x00"))
}

// flip flips one bit of a command in the middle of what a segment holds.
func flip(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	middle := len(bytes.TrimRight(b, "\x00")) / 2
	offset := bytes.Index(b[middle:], []byte("incr"))
	if offset < 0 {
		t.Fatalf("no command behind offset %d of %s", middle, file)
	}
	b[middle+offset] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// wholeAgain starts the stopped nodes and checks that they serve in time with nothing lost, and that
// the cluster still takes commands.
func wholeAgain(t *testing.T, c *proctest.Cluster, acknowledged int64) {
	t.Helper()
	begin := time.Now()
	c.StartAll()
	c.Ready(wholeWithin)
	t.Logf("whole after %v", time.Since(begin).Round(time.Millisecond))
	if got := agree(t, c); got != acknowledged {
		t.Errorf("the counter is %d, want %d", got, acknowledged)
	}
	for i, n := range c.Nodes {
		if got := pipeline(t, n.Client, 1); got != acknowledged+int64(i)+1 {
			t.Errorf("one more increment on node %d answers %d", n.ID, got)
		}
	}
	// The repair is durable: a second start finds a whole log.
	for _, n := range c.Nodes {
		c.Kill(n)
	}
	c.StartAll()
	c.Ready(wholeWithin)
	if got := agree(t, c); got != acknowledged+3 {
		t.Errorf("the counter is %d after another start, want %d", got, acknowledged+3)
	}
}

func says(t *testing.T, n *proctest.Node, words string) bool {
	t.Helper()
	log, err := os.ReadFile(n.Log)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(log, []byte(words))
}

func TestFlippedBitIsMendedFromPeers(t *testing.T) {
	c, acknowledged := damagedCluster(t)
	n := c.Nodes[1]
	c.Kill(n)
	file := segments(t, n)[1]
	flip(t, file)
	wholeAgain(t, c, acknowledged)
	if !says(t, n, "log mended") {
		t.Error("the node does not tell that it mended its log")
	}
}

func TestMissingSegmentIsFetchedFromPeers(t *testing.T) {
	c, acknowledged := damagedCluster(t)
	n := c.Nodes[1]
	if leader := c.Leader(); leader != nil {
		n = leader // the hardest case: the others must not count on it
	}
	c.Kill(n)
	files := segments(t, n)
	if err := os.Remove(files[len(files)-1]); err != nil {
		t.Fatal(err)
	}
	wholeAgain(t, c, acknowledged)
	if !says(t, n, "fenced") {
		t.Error("the node does not tell that it was fenced")
	}
}

func TestTwoNodesDamagedInDifferentPlaces(t *testing.T) {
	c, acknowledged := damagedCluster(t)
	for i, n := range c.Nodes {
		c.Kill(n)
		if i < 2 {
			file := segments(t, n)[i+1]
			flip(t, file)
		}
	}
	wholeAgain(t, c, acknowledged)
	for _, n := range c.Nodes[:2] {
		if !says(t, n, "log mended") {
			t.Errorf("node %d does not tell that it mended its log", n.ID)
		}
	}
}

// A single node has nobody to ask: it refuses, and says what is damaged.
func TestSingleNodeRefusesADamagedLog(t *testing.T) {
	c := proctest.New(t, proctest.Build(t, "."), 1, "")
	c.StartAll()
	c.Ready(waitMax)
	for range 100 {
		pipeline(t, c.Nodes[0].Client, 1)
	}
	c.Kill(c.Nodes[0])
	file := segments(t, c.Nodes[0])[0]
	flip(t, file)
	mustSay(t, refusal(t, c, c.Nodes[0], 1), "damage", filepath.Base(file), "offset", "group 1",
		"lost entries")
}
