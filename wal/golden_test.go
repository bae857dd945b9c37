package wal_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

var updateGolden = flag.Bool("update", false, "write the golden files of the present format version")

const goldenDir = "testdata/golden/v1"

// goldenLog writes the log of the golden files: every kind of frame, a rotation, a kill and a clean
// close.
func goldenLog(t *testing.T) wal.Options {
	t.Helper()
	fs := vfs.NewMem()
	o := testOptions(fs)
	o.SegmentBytes, o.ReserveBytes = 4<<10, -1
	o.Now = func() time.Time { return time.Unix(0, 0) }
	l := open(t, o)
	conf := &raftpb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}}
	mustAppend(t, l, wal.Update{Group: 1, State: &wal.State{Term: 1, Vote: 2},
		Mark: &wal.Mark{ConfState: conf}, Entries: entries(1, 1, 3, 1, 40)})
	mustAppend(t, l, wal.Update{Group: 2, State: &wal.State{Term: 5, Vote: 1, Commit: 70},
		Mark: &wal.Mark{Index: 70, Term: 4, ConfState: conf}})
	mustAppend(t, l, wal.Update{Group: 1, Entries: entries(1, 3, 4, 2, 40)})
	mustAppend(t, l, wal.Update{Group: 3, Entries: entries(3, 1, 2, 1, 300)})
	if err := l.RemoveGroup(3); err != nil {
		t.Fatal(err)
	}
	crash(fs, l)
	l = open(t, o)
	mustAppend(t, l, wal.Update{Group: 1, State: &wal.State{Term: 3, Vote: 3, Commit: 4},
		Entries: entries(1, 5, 12, 3, 300)})
	if err := l.Compact(1, 2); err != nil {
		t.Fatal(err)
	}
	appendEach(t, l, 2, 71, 74, 5, 500)
	closeLog(t, l)
	return o
}

func expectGolden(t *testing.T, o wal.Options) {
	t.Helper()
	l := open(t, o)
	conf := &raftpb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}}
	want := append(entries(1, 3, 4, 2, 40), entries(1, 5, 12, 3, 300)...)
	expectEntries(t, l.Group(1), want)
	expectEntries(t, l.Group(2), entries(2, 71, 74, 5, 500))
	if s := l.Group(1).State(); s != (wal.State{Term: 3, Vote: 3, Commit: 4}) {
		t.Errorf("state of group 1 is %+v", s)
	}
	if m := l.Group(1).Mark(); m.Index != 2 || m.Term != 1 || !proto.Equal(m.ConfState, conf) {
		t.Errorf("mark of group 1 is %+v", m)
	}
	if s := l.Group(2).State(); s != (wal.State{Term: 5, Vote: 1, Commit: 73}) {
		t.Errorf("state of group 2 is %+v", s)
	}
	if ids := l.Groups(); len(ids) != 2 {
		t.Errorf("groups are %v", ids)
	}
	if l.Identity() != o.Identity {
		t.Errorf("identity is %+v", l.Identity())
	}
	closeLog(t, l)
}

// TestGoldenFiles opens a log of every format version that was ever released, and checks that the
// present version still writes the same bytes.
func TestGoldenFiles(t *testing.T) {
	o := goldenLog(t)
	names, err := o.FS.List(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	golden := testOptions(vfs.NewMem())
	golden.SegmentBytes, golden.ReserveBytes = 4<<10, -1
	if err := golden.FS.MkdirAll(golden.Dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name == "lock" {
			continue
		}
		file, got := filepath.Join(goldenDir, name), readFile(t, o, name)
		if *updateGolden {
			if err := os.MkdirAll(goldenDir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is written otherwise than in format version 1", name)
		}
		f, err := golden.FS.OpenFile(filepath.Join(golden.Dir, name), os.O_RDWR|os.O_CREATE)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(want, 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	expectGolden(t, golden)
	expectGolden(t, o)
}
