package node

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/statemachine"
	"github.com/connectraft/connect/wal"
)

// blank is a state machine that holds nothing.
type blank struct{}

func (blank) Apply(statemachine.Meta, []byte) ([]byte, error) { return nil, nil }
func (blank) Query([]byte) ([]byte, error)                    { return nil, nil }
func (blank) Snapshot(io.Writer) error                        { return nil }
func (blank) Restore(r io.Reader) error                       { _, err := io.ReadAll(r); return err }

// openAlone opens a node that is a cluster by itself and runs no group yet.
func openAlone(t *testing.T) *Node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n, err := Open(Options{ClusterID: "test", ID: 1, Dir: t.TempDir(), Tick: 5 * time.Millisecond,
		Members: []Member{{ID: 1, Address: l.Addr().String()}}, PeerListener: l,
		SegmentBytes: 1 << 20,
		Machines:     func(uint64) (statemachine.Machine, error) { return blank{}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// catalogs returns the catalog with group 5 in it, and the one behind its removal, of a node whose
// first group has caught up.
func catalogs(t *testing.T, n *Node) (with, without *apply.Catalog) {
	t.Helper()
	if _, err := n.StartGroup(apply.FirstGroup, blank{}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		err := n.Group(apply.FirstGroup).Ready()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if err := n.CreateGroup(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	with = n.keeper.wanted.Load()
	if err := n.RemoveGroup(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	return with, n.keeper.wanted.Load()
}

// A catalog that was read before the first group had caught up may have a group that was removed
// since. It must not begin a second time, although the first group has caught up meanwhile.
func TestOldCatalogBeginsNothing(t *testing.T) {
	n := openAlone(t)
	old, _ := catalogs(t, n)
	created, ok := old.Group(5)
	if !ok {
		t.Fatal("the catalog does not have the group")
	}
	if n.keeper.mayStart(created) {
		t.Error("a removed group may start, because an older catalog has it")
	}
}

// What a removed group has left on the disk is forgotten also when the node learns of its removal
// only from the log, behind the catalog that it started with.
func TestRemovalLearnedLateIsCarriedOut(t *testing.T) {
	old, removed := catalogs(t, openAlone(t))
	n := openAlone(t)
	k := newKeeper(n)
	k.sweep(old)
	err := n.appendNow(wal.Update{Group: 5, State: &wal.State{Term: 2},
		Mark: &wal.Mark{Index: 1, Term: 1, ConfState: &pb.ConfState{Voters: []uint64{1}}}})
	if err != nil {
		t.Fatal(err)
	}
	k.sweep(removed)
	if slices.Contains(n.wal.Groups(), 5) {
		t.Error("the log of the removed group is still there")
	}
}

// A group that is being started is not forgotten at the same time.
func TestSweepLeavesWhatIsBusy(t *testing.T) {
	_, removed := catalogs(t, openAlone(t))
	n := openAlone(t)
	k := newKeeper(n)
	err := n.appendNow(wal.Update{Group: 5, State: &wal.State{Term: 2}})
	if err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	var jobs sync.WaitGroup
	k.do(&jobs, 5, func() error { <-release; return nil })
	k.sweep(removed)
	if !slices.Contains(n.wal.Groups(), 5) {
		t.Error("a group was forgotten while it was being started")
	}
	close(release)
	jobs.Wait()
	k.sweep(removed)
	if slices.Contains(n.wal.Groups(), 5) {
		t.Error("the log of the removed group is still there")
	}
}
