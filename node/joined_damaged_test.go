package node_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connectraft/connect/internal/porttest"
	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/transport"
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

// A node on an empty directory says that nothing has happened, until it hears from anybody that the
// cluster has begun: then others on empty directories must not take it for a witness.
func TestNewNodeIsNoWitnessOnceItKnowsBetter(t *testing.T) {
	n, p := besideFakeLeader(t, func(o *node.Options) {
		o.Members = append(o.Members, node.Member{ID: 3, Address: porttest.Address(t)})
	})
	g, err := n.StartGroup(1, &scripted{})
	if err != nil {
		t.Fatal(err)
	}
	const fetch, entries, askTerm, term = 3, 4, 5, 6
	send := func(kind transport.Kind, values ...uint64) {
		var payload []byte
		for _, v := range values {
			payload = binary.LittleEndian.AppendUint64(payload, v)
		}
		if err := p.Send(1, 1, kind, payload); err != nil {
			t.Fatal(err)
		}
	}
	send(askTerm)
	if f := p.next(t); f.kind != term || !bytes.Equal(f.payload, make([]byte, 16)) {
		t.Fatalf("the answer is %v, want that nothing has happened", f)
	}
	send(term, 5, 9)
	send(askTerm)
	send(fetch, 2, 2)
	if f := p.next(t); f.kind != entries {
		t.Errorf("the next answer is %v, want that to the question for entries", f)
	}
	const want = "no answer from 3"
	if err := g.Ready(); err == nil || !strings.Contains(err.Error(), want) ||
		!strings.Contains(err.Error(), "connect member replace 1=") {
		t.Errorf("ready: %v, want %q and what to do", err, want)
	}
}

// The first members have all lost their directories after the group has moved to others. One that
// hears from these does not begin anew, nor do those who hear only from it.
func TestWipedFoundersDoNotBeginAnew(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	c.add(1, 3)
	c.change(1, node.Change{Add: []node.Member{c.join(4), c.join(5)}, Remove: []uint64{1, 2}})
	for id := range uint64(3) {
		c.stop(id + 1)
		if err := os.RemoveAll(c.nodeOptions(id + 1).Dir); err != nil {
			t.Fatal(err)
		}
	}
	c.start(3)
	c.within("node 3 is refused", func() bool {
		return errors.Is(c.groups[3].Ready(), node.ErrRefused)
	})
	c.start(1)
	c.start(2)
	for id := range uint64(2) {
		c.within("a founder has asked node 3 again and again, and waits", func() bool {
			err, asked := c.groups[id+1].Ready(), uint64(0)
			for _, p := range c.nodes[id+1].Peers() {
				if p.ID == 3 {
					asked = p.SentFrames
				}
			}
			return asked > 3 && (errors.Is(err, node.ErrRemoved) ||
				err != nil && strings.Contains(err.Error(), "asking the other members"))
		})
	}
	if got := c.add(4, 1); got != 4 {
		t.Errorf("total %d, want 4", got)
	}
}

// Four of five first members with empty logs prove nothing to each other: any two of them may have lost
// theirs after they had elected a leader together with the fifth. The cluster begins when it answers.
func TestEmptyLogsAreNoWitnessesForEachOther(t *testing.T) {
	c := newTestCluster(t, 4, func(o *node.Options) {
		o.Members = append(o.Members, node.Member{ID: 5, Address: porttest.Address(t)})
	})
	for id, g := range c.groups {
		c.within("all but node 5 have answered", func() bool {
			err := g.Ready()
			if err == nil || errors.Is(err, node.ErrNoLeader) {
				t.Fatalf("node %d has begun: %v", id, err)
			}
			return strings.Contains(err.Error(), "no answer from 5;")
		})
	}
	c.start(5)
	c.ready()
}
