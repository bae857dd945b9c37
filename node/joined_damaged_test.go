package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/wal"
)

// A node that joined, and whose log is damaged before it has got a snapshot, knows no members by itself.
// It asks whoever connects to it, and comes back without being replaced.
func TestJoinedNodeWithDamagedLogComesBack(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	four := c.join(4)
	leader := c.leader()
	c.add(leader, 3)
	c.stop(4)
	c.damageFirstTerm(4)
	s := c.startWatched(4)
	await(t, s, node.DamageFound)
	c.change(leader, node.Change{Learn: []node.Member{four}})
	await(t, s, node.GroupFenced)
	await(t, s, node.GroupUnfenced)
	c.ready()
	if got := c.agree(); got != 3 {
		t.Errorf("total %d, want 3", got)
	}
	wantMembers(t, c.groups[4].Membership(), []uint64{1, 2, 3}, []uint64{4})
	c.stop(4)
	c.start(4)
	c.ready()
}

// damageFirstTerm gives the empty log of a node that is down two terms, as a leader would that has sent
// no snapshot yet, and flips a bit of the first.
func (c *testCluster) damageFirstTerm(id uint64) {
	c.t.Helper()
	o := c.nodeOptions(id)
	dir := filepath.Join(o.Dir, "wal")
	log, err := wal.Open(wal.Options{FS: vfs.OS{}, Dir: dir, SegmentBytes: o.SegmentBytes,
		Identity: wal.Identity{ClusterID: o.ClusterID, NodeID: id}})
	if err != nil {
		c.t.Fatal(err)
	}
	for term := range uint64(2) {
		err = errors.Join(err, log.Append([]wal.Update{{Group: 1, State: &wal.State{Term: 2 + term}}}, true))
	}
	if err := errors.Join(err, log.Close()); err != nil {
		c.t.Fatal(err)
	}
	var first *wal.Frame
	_, err = wal.Inspect(wal.InspectOptions{FS: vfs.OS{}, Dir: dir, Visit: func(f *wal.Frame) error {
		if first == nil && f.Group == 1 {
			first = new(*f)
		}
		return nil
	}})
	if err != nil || first == nil {
		c.t.Fatalf("no frame in the log: %v", err)
	}
	file := filepath.Join(dir, first.File)
	b, err := os.ReadFile(file)
	if err != nil {
		c.t.Fatal(err)
	}
	b[first.Offset] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// A node that has lost the end of its log does not wait for a member that was removed since, and is
// gone: all who vote now tell who the members are. In its own log there is no word of that.
func TestDamagedNodeWaitsForNoRemovedMember(t *testing.T) {
	c := newTestCluster(t, 3, smallSegments)
	c.ready()
	c.change(1, node.Change{Add: []node.Member{c.join(4)}, Remove: []uint64{2}})
	c.stop(2)
	c.fillSegments()
	c.add(1, 3)
	c.agree()
	c.stop(3)
	c.loseEndOfLog(3)
	c.start(3)
	c.ready()
	if got := c.agree(); got != 3 {
		t.Errorf("total %d, want 3", got)
	}
}
