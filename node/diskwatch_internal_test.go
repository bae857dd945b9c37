package node

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// told returns the kinds of the events that wait in a subscription.
func told(s *Subscription) (kinds []EventKind) {
	for len(s.C) > 0 {
		kinds = append(kinds, (<-s.C).Kind)
	}
	return kinds
}

// expectTold looks at the disk once and checks what the subscribers are told.
func expectTold(t *testing.T, d *diskWatch, s *Subscription, want ...EventKind) {
	t.Helper()
	d.look()
	got := told(s)
	if len(got) != len(want) || len(want) == 1 && got[0] != want[0] {
		t.Errorf("told %v, want %v", got, want)
	}
}

// TestDiskIsToldToSubscribers has a sync hang and return, and the log without room for a while.
func TestDiskIsToldToSubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		l, err := wal.Open(wal.Options{FS: fs, Dir: "wal", SegmentBytes: 1 << 20,
			Identity: wal.Identity{ClusterID: "test", NodeID: 1}})
		if err != nil {
			t.Fatal(err)
		}
		n := &Node{}
		d := &diskWatch{node: n, log: l, logger: slog.New(slog.DiscardHandler), limit: time.Second}
		s := n.Subscribe(16)
		defer s.Close()
		expectTold(t, d, s)

		appendEntry := func(index uint64) error {
			return l.Append([]wal.Update{{Group: 1, State: &wal.State{Term: 1},
				Entries: []*pb.Entry{{Index: &index, Term: new(uint64(1))}}}}, true)
		}
		if err := appendEntry(1); err != nil { // takes the group in
			t.Fatal(err)
		}
		synctest.Wait()
		stalled, done := make(chan struct{}), make(chan error)
		remove := fs.Inject(vfs.Fault{Ops: vfs.OpSyncData,
			Do: vfs.Effect{Hook: func(vfs.Op) { <-stalled }}})
		go func() { done <- appendEntry(2) }()
		time.Sleep(time.Second / 2) // of the fake clock
		expectTold(t, d, s)
		time.Sleep(time.Second)
		expectTold(t, d, s, DiskHung)
		expectTold(t, d, s)
		close(stalled)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		remove()
		expectTold(t, d, s, DiskReturned)
		expectTold(t, d, s)

		n.diskFull.Store(true) // as the log writer says
		expectTold(t, d, s, DiskFull)
		expectTold(t, d, s)
		n.diskFull.Store(false)
		expectTold(t, d, s, DiskRoom)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
