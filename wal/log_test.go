package wal_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRoundTrip(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	conf := &raftpb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}}
	list := entries(7, 1, 5, 2, 100)
	list[1].Type = raftpb.EntryConfChangeV2.Enum()
	list[2].Data = nil
	list[3].Data = []byte{}
	mustAppend(t, l, wal.Update{Group: 7, State: &wal.State{Term: 2, Vote: 3, Commit: 4},
		Mark: &wal.Mark{ConfState: conf}, Entries: list})
	mustAppend(t, l, wal.Update{Group: 9, State: &wal.State{Term: 1, Vote: 1}})
	for round := range 3 {
		g := l.Group(7)
		expectEntries(t, g, list)
		if got := g.State(); got != (wal.State{Term: 2, Vote: 3, Commit: 4}) {
			t.Fatalf("round %d: state is %+v", round, got)
		}
		if m := g.Mark(); m.Index != 0 || !proto.Equal(m.ConfState, conf) {
			t.Fatalf("round %d: mark is %+v", round, m)
		}
		if ids := l.Groups(); len(ids) != 2 || ids[0] != 7 || ids[1] != 9 {
			t.Fatalf("round %d: groups are %v", round, ids)
		}
		if l.Identity() != o.Identity {
			t.Fatalf("round %d: identity is %+v", round, l.Identity())
		}
		l = reopen(t, l, o)
	}
}

func TestUnknownGroupIsEmpty(t *testing.T) {
	l := open(t, testOptions(vfs.NewMem()))
	g := l.Group(5)
	if g.FirstIndex() != 1 || g.LastIndex() != 0 || g.State() != (wal.State{}) {
		t.Fatalf("first %d, last %d, state %+v", g.FirstIndex(), g.LastIndex(), g.State())
	}
	if term, err := g.Term(0); term != 0 || err != nil {
		t.Fatalf("term of 0 is %d, %v", term, err)
	}
	if ids := l.Groups(); len(ids) != 0 {
		t.Fatalf("groups are %v", ids)
	}
	mustAppend(t, l, wal.Update{Group: 5, Entries: entries(5, 1, 2, 1, 10)})
	expectEntries(t, g, entries(5, 1, 2, 1, 10))
}

func TestReadErrors(t *testing.T) {
	l := open(t, testOptions(vfs.NewMem()))
	mustAppend(t, l, wal.Update{Group: 1, Mark: &wal.Mark{Index: 10, Term: 3},
		Entries: entries(1, 11, 20, 3, 10)})
	if err := l.Compact(1, 12); err != nil {
		t.Fatal(err)
	}
	g := l.Group(1)
	for _, c := range []struct {
		lo, hi uint64
		want   error
	}{{12, 14, raft.ErrCompacted}, {13, 22, raft.ErrUnavailable}, {13, 21, nil}, {15, 15, nil}} {
		if _, err := g.Entries(c.lo, c.hi, 1<<62); !errors.Is(err, c.want) {
			t.Errorf("entries [%d, %d): %v, want %v", c.lo, c.hi, err, c.want)
		}
	}
	for _, c := range []struct {
		index uint64
		want  error
	}{{11, raft.ErrCompacted}, {12, nil}, {20, nil}, {21, raft.ErrUnavailable}} {
		if _, err := g.Term(c.index); !errors.Is(err, c.want) {
			t.Errorf("term of %d: %v, want %v", c.index, err, c.want)
		}
	}
	if list, err := g.Entries(13, 21, 0); err != nil || len(list) != 1 {
		t.Errorf("a limit of 0 bytes gives %d entries (%v), want 1", len(list), err)
	}
}

func TestSuffixOverwrite(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	mustAppend(t, l, wal.Update{Group: 1, Entries: entries(1, 1, 10, 1, 50)})
	mustAppend(t, l, wal.Update{Group: 1, Entries: entries(1, 5, 6, 2, 50)})
	want := append(entries(1, 1, 4, 1, 50), entries(1, 5, 6, 2, 50)...)
	expectEntries(t, l.Group(1), want)
	l = reopen(t, l, o)
	expectEntries(t, l.Group(1), want)
}

func TestSuffixOverwriteWithinOneAppend(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	mustAppend(t, l,
		wal.Update{Group: 1, Entries: entries(1, 1, 4, 1, 50)},
		wal.Update{Group: 1, Entries: entries(1, 3, 5, 2, 50)},
		wal.Update{Group: 1, Entries: entries(1, 4, 4, 3, 50)})
	want := append(entries(1, 1, 2, 1, 50), entries(1, 3, 3, 2, 50)...)
	want = append(want, entries(1, 4, 4, 3, 50)...)
	expectEntries(t, l.Group(1), want)
	l = reopen(t, l, o)
	expectEntries(t, l.Group(1), want)
}

func TestMarkEmptiesTheLog(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	mustAppend(t, l, wal.Update{Group: 1, Entries: entries(1, 1, 10, 1, 50)})
	conf := &raftpb.ConfState{Voters: []uint64{2}}
	mustAppend(t, l, wal.Update{Group: 1, Mark: &wal.Mark{Index: 40, Term: 5, ConfState: conf},
		Entries: entries(1, 41, 42, 6, 50)})
	for range 2 {
		g := l.Group(1)
		expectEntries(t, g, entries(1, 41, 42, 6, 50))
		if term, err := g.Term(40); term != 5 || err != nil {
			t.Fatalf("term of the mark is %d, %v", term, err)
		}
		if !proto.Equal(g.Mark().ConfState, conf) {
			t.Fatalf("membership is %v", g.Mark().ConfState)
		}
		l = reopen(t, l, o)
	}
}

func TestInvalidUpdatesChangeNothing(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	mustAppend(t, l, wal.Update{Group: 1, State: &wal.State{Term: 3},
		Mark: &wal.Mark{Index: 4, Term: 1}, Entries: entries(1, 5, 6, 1, 10)})
	gap := entries(1, 7, 8, 1, 10)
	gap[1].Index = new(uint64(9))
	for name, u := range map[string]wal.Update{
		"gap behind the log":   {Group: 1, Entries: entries(1, 8, 8, 1, 10)},
		"before the mark":      {Group: 1, Entries: entries(1, 4, 4, 1, 10)},
		"gap inside":           {Group: 1, Entries: gap},
		"term goes back":       {Group: 1, State: &wal.State{Term: 2}},
		"mark goes back":       {Group: 1, Mark: &wal.Mark{Index: 3}},
		"new group with a gap": {Group: 2, Entries: entries(2, 2, 2, 1, 10)},
	} {
		valid := wal.Update{Group: 3, Entries: entries(3, 1, 1, 1, 10)}
		if err := l.Append([]wal.Update{valid, u}, true); !errors.Is(err, wal.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	if err := l.Compact(1, 7); !errors.Is(err, wal.ErrInvalid) {
		t.Errorf("compact behind the log: %v", err)
	}
	l = reopen(t, l, o)
	expectEntries(t, l.Group(1), entries(1, 5, 6, 1, 10))
	if ids := l.Groups(); len(ids) != 1 {
		t.Errorf("groups are %v", ids)
	}
}

func TestRotationKeepsEverything(t *testing.T) {
	for _, inline := range []bool{true, false} {
		o := testOptions(vfs.NewMem())
		o.Inline = inline
		l := open(t, o)
		for i := uint64(1); i <= 200; i++ {
			mustAppend(t, l, wal.Update{Group: 1 + i%3, State: &wal.State{Term: i, Vote: i},
				Entries: entries(1+i%3, (i+2)/3, (i+2)/3, i, 300)})
		}
		for range 2 {
			if n := l.Stats().Segments; n < 5 {
				t.Fatalf("only %d segments", n)
			}
			for id := uint64(1); id <= 3; id++ {
				var want []*raftpb.Entry
				for i := uint64(1); i <= 200; i++ {
					if 1+i%3 == id {
						want = append(want, entry(id, (i+2)/3, i, 300))
					}
				}
				expectEntries(t, l.Group(id), want)
			}
			l = reopen(t, l, o)
		}
	}
}

func TestAppendLargerThanASegment(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	mustAppend(t, l, wal.Update{Group: 1, Entries: entries(1, 1, 2, 1, 50)})
	mustAppend(t, l, wal.Update{Group: 1, Entries: entries(1, 3, 60, 1, 1000)})
	mustAppend(t, l, wal.Update{Group: 1, Entries: entries(1, 61, 61, 1, 1000)})
	l = reopen(t, l, o)
	want := append(entries(1, 1, 2, 1, 50), entries(1, 3, 61, 1, 1000)...)
	expectEntries(t, l.Group(1), want)
}

func TestCompactionFreesFiles(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	appendEach(t, l, 1, 1, 100, 1, 400)
	before := l.Stats()
	if err := l.Compact(1, 98); err != nil {
		t.Fatal(err)
	}
	after := l.Stats()
	if before.Segments < 6 || after.Segments > 2 {
		t.Fatalf("%d segments before and %d after", before.Segments, after.Segments)
	}
	if n := len(segmentNames(t, o)); n > 2+4 { // four are held ready
		t.Fatalf("%d files are left", n)
	}
	for range 2 {
		expectEntries(t, l.Group(1), entries(1, 99, 100, 1, 400))
		if m := l.Group(1).Mark(); m.Index != 98 || m.Term != 1 {
			t.Fatalf("mark is %+v", m)
		}
		l = reopen(t, l, o)
	}
}

func TestSmallIdleGroupDoesNotPin(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	conf := &raftpb.ConfState{Voters: []uint64{1}}
	mustAppend(t, l, wal.Update{Group: 2, State: &wal.State{Term: 4, Vote: 2, Commit: 3},
		Mark: &wal.Mark{ConfState: conf}, Entries: entries(2, 1, 3, 4, 60)})
	for i := uint64(1); i <= 300; i++ {
		appendEach(t, l, 1, i, i, 1, 400)
		if i > 5 {
			if err := l.Compact(1, i-5); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := l.Stats().Segments; n > 4 {
		t.Fatalf("%d segments: the idle group pins them", n)
	}
	for range 2 {
		g := l.Group(2)
		expectEntries(t, g, entries(2, 1, 3, 4, 60))
		if g.State() != (wal.State{Term: 4, Vote: 2, Commit: 3}) || !proto.Equal(g.Mark().ConfState, conf) {
			t.Fatalf("state is %+v, mark is %+v", g.State(), g.Mark())
		}
		l = reopen(t, l, o)
	}
}

// TestManyGroups has more groups than their checkpoints fit into a segment.
func TestManyGroups(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l := open(t, o)
	const groups = 300
	for i := uint64(1); i <= 4; i++ {
		var updates []wal.Update
		for id := uint64(1); id <= groups; id++ {
			updates = append(updates, wal.Update{Group: id, State: &wal.State{Term: i, Vote: id},
				Entries: entries(id, i, i, i, 60)})
		}
		mustAppend(t, l, updates...)
	}
	for id := uint64(1); id <= groups; id++ {
		appendEach(t, l, id, 5, 5, 5, 60)
	}
	if n := l.Stats().Rotations; n > 20 {
		t.Errorf("%d rotations", n)
	}
	crash(fs, l)
	for range 2 {
		l = open(t, o)
		for id := uint64(1); id <= groups; id++ {
			var want []*raftpb.Entry
			for i := uint64(1); i <= 5; i++ {
				want = append(want, entry(id, i, i, 60))
			}
			expectEntries(t, l.Group(id), want)
		}
		closeLog(t, l)
	}
}

// TestProgress opens a log of more than two steps and watches.
func TestProgress(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.SegmentBytes = 16 << 20
	l := open(t, o)
	for i := uint64(1); i <= 150; i++ {
		mustAppend(t, l, wal.Update{Group: 1, Entries: entries(1, i, i, 1, 1<<20)})
	}
	closeLog(t, l)
	var calls []int64
	o.Progress = func(done, total int64) {
		if done > total || total < 150<<20 || len(calls) > 0 && done < calls[len(calls)-1] {
			t.Errorf("progress %d of %d behind %v", done, total, calls)
		}
		calls = append(calls, done)
	}
	open(t, o)
	if n := len(calls); n < 3 || calls[n-1] < 150<<20 {
		t.Errorf("progress was %v", calls)
	}
}

func TestStatsNamesTheGroupThatPins(t *testing.T) {
	l := open(t, testOptions(vfs.NewMem()))
	mustAppend(t, l, wal.Update{Group: 2, Entries: entries(2, 1, 10, 4, 500)})
	appendEach(t, l, 1, 1, 60, 1, 400)
	if err := l.Compact(1, 58); err != nil {
		t.Fatal(err)
	}
	st := l.Stats()
	if st.PinnedBy != 2 || st.Segments < 3 {
		t.Fatalf("pinned by %d, %d segments", st.PinnedBy, st.Segments)
	}
	if err := l.Compact(2, 10); err != nil {
		t.Fatal(err)
	}
	if st = l.Stats(); st.PinnedBy == 2 || st.Segments > 2 {
		t.Fatalf("pinned by %d, %d segments", st.PinnedBy, st.Segments)
	}
}

func TestRemoveGroup(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	for i := uint64(1); i <= 60; i++ {
		mustAppend(t, l, wal.Update{Group: 1, Entries: entries(1, i, i, 1, 200)},
			wal.Update{Group: 2, Entries: entries(2, i, i, 1, 200)})
	}
	if err := l.RemoveGroup(1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if ids := l.Groups(); len(ids) != 1 || ids[0] != 2 {
			t.Fatalf("groups are %v", ids)
		}
		expectEntries(t, l.Group(1), nil)
		expectEntries(t, l.Group(2), entries(2, 1, 60, 1, 200))
		l = reopen(t, l, o)
	}
	mustAppend(t, l, wal.Update{Group: 1, Entries: entries(1, 1, 2, 9, 20)})
	l = reopen(t, l, o)
	expectEntries(t, l.Group(1), entries(1, 1, 2, 9, 20))
}

func TestLock(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	if _, err := wal.Open(o); !errors.Is(err, wal.ErrLocked) {
		t.Fatalf("second open: %v, want ErrLocked", err)
	}
	l = reopen(t, l, o)
	closeLog(t, l)
}

func TestIdentityMismatch(t *testing.T) {
	o := testOptions(vfs.NewMem())
	closeLog(t, open(t, o))
	for _, id := range []wal.Identity{{ClusterID: "other", NodeID: 1}, {ClusterID: "test", NodeID: 2}} {
		other := o
		other.Identity = id
		_, err := wal.Open(other)
		mismatch, ok := errors.AsType[*wal.IdentityError](err)
		if !ok || mismatch.Found != o.Identity || mismatch.Want != id {
			t.Fatalf("open as %+v: %v", id, err)
		}
	}
	closeLog(t, open(t, o))
}

func TestCloseIsIdempotent(t *testing.T) {
	fs := vfs.NewMem()
	l := open(t, testOptions(fs))
	closeLog(t, l)
	closeLog(t, l)
	if err := l.Append(nil, true); !errors.Is(err, wal.ErrClosed) {
		t.Fatalf("append after close: %v", err)
	}
	if n := fs.OpenHandles(); n != 0 {
		t.Fatalf("%d files are open after close", n)
	}
}

func TestUncachedReads(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.CacheBytes = 1
	l := open(t, o)
	appendEach(t, l, 1, 1, 100, 1, 300)
	want := entries(1, 1, 100, 1, 300)
	expectEntries(t, l.Group(1), want)
	list, err := l.Group(1).Entries(10, 90, 5*320)
	if err != nil || len(list) == 0 || len(list) > 5 {
		t.Fatalf("got %d entries, %v", len(list), err)
	}
	for i, e := range list {
		if !proto.Equal(e, want[9+i]) {
			t.Fatalf("entry %d differs", e.GetIndex())
		}
	}
}

// TestConcurrentReads reads while the log is appended to, compacted and rotated.
func TestConcurrentReads(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.Inline, o.CacheBytes = false, 4<<10
	l := open(t, o)
	g := l.Group(1)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				first, last := g.FirstIndex(), g.LastIndex()
				list, err := g.Entries(first, last+1, 3000)
				if errors.Is(err, raft.ErrCompacted) || errors.Is(err, raft.ErrUnavailable) {
					continue
				}
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				for i, e := range list {
					if e.GetIndex() != first+uint64(i) || !proto.Equal(e, entry(1, e.GetIndex(), e.GetTerm(), 200)) {
						t.Errorf("entry %d is wrong", first+uint64(i))
						return
					}
				}
				l.Stats()
			}
		})
	}
	for i := uint64(1); i <= 2000 && !t.Failed(); i++ {
		appendEach(t, l, 1, i, i, i/100+1, 200)
		if i%50 == 0 {
			if err := l.Compact(1, i-40); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(done)
	readers.Wait()
}
