package wal_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// testOptions are small, so that a few appends cross every boundary.
func testOptions(fs vfs.FS) wal.Options {
	return wal.Options{
		FS: fs, Dir: "/log", Inline: true, SegmentBytes: 8 << 10,
		Identity: wal.Identity{ClusterID: "test", NodeID: 1, Incarnation: 77},
	}
}

func open(t testing.TB, o wal.Options) *wal.Log {
	t.Helper()
	l, err := wal.Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func closeLog(t testing.TB, l *wal.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// reopen closes the log and opens it again.
func reopen(t testing.TB, l *wal.Log, o wal.Options) *wal.Log {
	t.Helper()
	closeLog(t, l)
	return open(t, o)
}

// payload is distinct for every (group, index, term).
func payload(group, index, term uint64, size int) []byte {
	text := fmt.Sprintf("<group %d index %d term %d>", group, index, term)
	return []byte(strings.Repeat(text, size/len(text)+1)[:size])
}

func entry(group, index, term uint64, size int) *raftpb.Entry {
	return &raftpb.Entry{Index: new(index), Term: new(term), Type: raftpb.EntryNormal.Enum(),
		Data: payload(group, index, term, size)}
}

func entries(group, first, last, term uint64, size int) []*raftpb.Entry {
	var list []*raftpb.Entry
	for i := first; i <= last; i++ {
		list = append(list, entry(group, i, term, size))
	}
	return list
}

func mustAppend(t testing.TB, l *wal.Log, updates ...wal.Update) {
	t.Helper()
	if err := l.Append(updates, true); err != nil {
		t.Fatalf("append: %v", err)
	}
}

// appendEach appends entries first to last one by one, each synced.
func appendEach(t testing.TB, l *wal.Log, group, first, last, term uint64, size int) {
	t.Helper()
	for i := first; i <= last; i++ {
		mustAppend(t, l, wal.Update{Group: group, State: &wal.State{Term: term, Vote: 1, Commit: i - 1},
			Entries: entries(group, i, i, term, size)})
	}
}

// appendUntilRotation appends entries from 1 on, one by one, until the log goes on in another
// segment, and returns the last index.
func appendUntilRotation(t testing.TB, l *wal.Log, group, term uint64, size int) (last uint64) {
	t.Helper()
	for l.Stats().Rotations == 0 {
		last++
		appendEach(t, l, group, last, last, term, size)
	}
	return last
}

// expectEntries checks that a group has exactly these entries.
func expectEntries(t testing.TB, g *wal.Group, want []*raftpb.Entry) {
	t.Helper()
	first, last := g.FirstIndex(), g.LastIndex()
	if n := last + 1 - first; n != uint64(len(want)) {
		t.Fatalf("group has entries %d to %d, want %d of them", first, last, len(want))
	}
	if len(want) == 0 {
		return
	}
	got, err := g.Entries(first, last+1, 1<<62)
	if err != nil {
		t.Fatalf("entries %d to %d: %v", first, last, err)
	}
	if len(got) != len(want) {
		t.Fatalf("got %d entries, want %d", len(got), len(want))
	}
	for i := range want {
		if !proto.Equal(got[i], want[i]) {
			t.Fatalf("entry %d is %v, want %v", want[i].GetIndex(), got[i], want[i])
		}
		term, err := g.Term(want[i].GetIndex())
		if err != nil || term != want[i].GetTerm() {
			t.Fatalf("term of %d is %d (%v), want %d", want[i].GetIndex(), term, err,
				want[i].GetTerm())
		}
	}
}

func expectDamage(t testing.TB, err error) *wal.DamageError {
	t.Helper()
	damage, ok := errors.AsType[*wal.DamageError](err)
	if !ok {
		t.Fatalf("got error %v, want a *DamageError", err)
	}
	return damage
}

// segmentNames returns the names of the segment files, oldest first.
func segmentNames(t testing.TB, o wal.Options) []string {
	t.Helper()
	names, err := o.FS.List(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var segments []string
	for _, name := range names {
		if strings.HasSuffix(name, ".wal") {
			segments = append(segments, name)
		}
	}
	return segments
}

func readFile(t testing.TB, o wal.Options, name string) []byte {
	t.Helper()
	f, err := o.FS.OpenFile(filepath.Join(o.Dir, name), os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && size > 0 {
		t.Fatal(err)
	}
	return b
}

// writeFile overwrites a part of a file durably.
func writeFile(t testing.TB, o wal.Options, name string, b []byte, offset int64) {
	t.Helper()
	f, err := o.FS.OpenFile(filepath.Join(o.Dir, name), os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// find returns the file and offset at which some bytes stand in the segments.
func find(t testing.TB, o wal.Options, what []byte) (string, int64) {
	t.Helper()
	for _, name := range segmentNames(t, o) {
		if at := strings.Index(string(readFile(t, o, name)), string(what)); at >= 0 {
			return name, int64(at)
		}
	}
	t.Fatalf("%q is in no segment", what)
	return "", 0
}

// findFrame is find for the first payload of a frame, and returns where the frame begins: its
// header is 112 bytes and the header of its first entry 16.
func findFrame(t testing.TB, o wal.Options, what []byte) (string, int64) {
	t.Helper()
	name, at := find(t, o, what)
	return name, at - 112 - 16
}

// flip inverts one bit in the place where some bytes stand.
func flip(t testing.TB, o wal.Options, what []byte) (string, int64) {
	t.Helper()
	name, at := find(t, o, what)
	flipAt(t, o, name, at)
	return name, at
}

func flipAt(t testing.TB, o wal.Options, name string, at int64) {
	t.Helper()
	writeFile(t, o, name, []byte{readFile(t, o, name)[at] ^ 1}, at)
}

// spoilHeader inverts one bit of the sequence in the header of the frame that begins at an offset.
func spoilHeader(t testing.TB, o wal.Options, name string, frame int64) {
	t.Helper()
	flipAt(t, o, name, frame+8)
}
