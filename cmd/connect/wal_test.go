package main_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
	"go.etcd.io/raft/v3/raftpb"
)

const testSegmentBytes = 16 << 10

func options(dir string) wal.Options {
	return wal.Options{FS: vfs.OS{}, Dir: dir, SegmentBytes: testSegmentBytes, Inline: true,
		Identity: wal.Identity{ClusterID: "test", NodeID: 1}}
}

func open(t testing.TB, o wal.Options) *wal.Log {
	t.Helper()
	l, err := wal.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func closeLog(t testing.TB, l *wal.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// data is what an entry of a group holds.
func data(group, index uint64) []byte {
	text := fmt.Sprintf("<group %d entry %d>", group, index)
	return []byte(strings.Repeat(text, 300/len(text)))
}

func entry(group, index, term uint64) *raftpb.Entry {
	return &raftpb.Entry{Index: new(index), Term: new(term), Type: raftpb.EntryNormal.Enum(),
		Data: data(group, index)}
}

// fill appends the entries from first to last, each synced by itself.
func fill(t testing.TB, l *wal.Log, group, first, last uint64) {
	t.Helper()
	for i := first; i <= last; i++ {
		appendOne(t, l, wal.Update{Group: group, State: &wal.State{Term: 2, Vote: 1, Commit: i - 1},
			Entries: []*raftpb.Entry{entry(group, i, 2)}})
	}
}

func appendOne(t testing.TB, l *wal.Log, u wal.Update) {
	t.Helper()
	if err := l.Append([]wal.Update{u}, true); err != nil {
		t.Fatal(err)
	}
}

// report is what the tests read of verify --json and stat --json.
type report struct {
	Dir   string
	Whole bool
	wal.Report
	OtherFiles []struct {
		File  string
		Bytes int64
	} `json:"other_files"`
}

// frame is a line of dump --json.
type frame struct {
	wal.Frame
	FirstTerm uint64 `json:"first_term"`
	LastTerm  uint64 `json:"last_term"`
	Entries   []struct {
		Index, Term uint64
		Data        string
	} `json:"entries"`
}

func TestWhole(t *testing.T) {
	node := t.TempDir()
	dir := filepath.Join(node, "wal")
	l := open(t, options(dir))
	fill(t, l, 4, 1, 100)
	fill(t, l, 5, 1, 10)
	if err := l.Compact(4, 3); err != nil {
		t.Fatal(err)
	}
	stats := l.Stats()
	closeLog(t, l)
	before := snapshotOf(t, node)

	for _, given := range []string{node, dir} {
		r := decode[report](t, expect(t, 0, "wal", "verify", "--json", given).stdout)
		if !r.Whole || r.Dir != dir || len(r.Damage)+len(r.BadPlaces) != 0 || r.Torn != nil ||
			r.Entries != 110 || !r.Floor.Clean {
			t.Errorf("verify gives %+v", r)
		}
		text := expect(t, 0, "wal", "verify", given)
		if !strings.HasSuffix(text.stdout, dir+" is whole\n") || text.stderr != "" {
			t.Errorf("verify prints %q and %q", text.stdout, text.stderr)
		}
	}
	r := decode[report](t, expect(t, 0, "wal", "stat", "--json", node).stdout)
	want := wal.GroupReport{Group: 4, FirstIndex: 4, LastIndex: 100, Term: 2, Vote: 1, Commit: 99,
		Bytes: stats.Groups[0].Bytes, Floor: 100}
	if len(r.Groups) != 2 || r.Groups[0] != want || r.LiveBytes != stats.LiveBytes ||
		r.DiskBytes != stats.DiskBytes || len(r.OtherFiles) < 3 || r.NodeID != 1 {
		t.Errorf("stat gives %+v, want %+v", r, stats)
	}
	text := expect(t, 0, "wal", "stat", node).stdout
	for _, part := range []string{"GROUP", "superblock.a", "sealed", "active", `cluster "test"`} {
		if !strings.Contains(text, part) {
			t.Errorf("stat does not print %q:\n%s", part, text)
		}
	}
	if after := snapshotOf(t, node); after != before {
		t.Errorf("the directory has changed:\n%s\nwas\n%s", after, before)
	}
}

func TestDump(t *testing.T) {
	dir := t.TempDir()
	l := open(t, options(dir))
	fill(t, l, 4, 1, 60)
	fill(t, l, 5, 1, 10)
	closeLog(t, l)

	sequence := uint64(1)
	for _, line := range lines(expect(t, 0, "wal", "dump", "--json", dir).stdout) {
		f := decode[frame](t, line)
		if f.Sequence != sequence || f.Condition != wal.FrameWhole || f.Length == 0 || f.Entries != nil {
			t.Errorf("frame %d is %q", sequence, line)
		}
		sequence++
	}
	text := lines(expect(t, 0, "wal", "dump", dir).stdout)
	if uint64(len(text)) != sequence || !strings.HasPrefix(text[0], "SEGMENT ") {
		t.Errorf("%d lines of text for %d frames", len(text), sequence-1)
	}
	out := expect(t, 0, "wal", "dump", "--json", "--data", "--group=4", "--from=20", "--to=22", dir)
	index := uint64(20)
	for _, line := range lines(out.stdout) {
		f := decode[frame](t, line)
		if f.Group != 4 || f.FirstIndex != index || f.LastIndex != index || f.FirstTerm != 2 ||
			f.Entries[0].Data != hex.EncodeToString(data(4, index)) {
			t.Errorf("entry %d is %q", index, line)
		}
		index++
	}
	if index != 23 {
		t.Errorf("the last entry is %d, want 22", index-1)
	}
	for flag, want := range map[string]string{
		"--data":        fmt.Sprintf("%q", data(5, 7)),
		"--data=quoted": fmt.Sprintf("%q", data(5, 7)),
		"--data=hex":    hex.EncodeToString(data(5, 7)),
	} {
		out := expect(t, 0, "wal", "dump", flag, "--group=5", "--from=7", "--to=7", dir).stdout
		if text := lines(out); len(text) != 3 || !strings.HasSuffix(text[2], want) {
			t.Errorf("%s prints %q", flag, out)
		}
	}
	expect(t, 2, "wal", "dump", "--data=base64", dir)
}

// TestLive runs the commands on a log that is written, rotated and compacted at the same moment.
func TestLive(t *testing.T) {
	o := options(filepath.Join(t.TempDir(), "wal"))
	o.Inline = false
	l := open(t, o)
	fill(t, l, 1, 1, 1)
	stop, writer := make(chan struct{}), new(sync.WaitGroup)
	writer.Go(func() {
		for i := uint64(2); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			fill(t, l, 1, i, i)
			if i%32 == 0 {
				if err := l.Compact(1, i-8); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	defer writer.Wait()
	defer close(stop)
	runs, begin := 0, time.Now()
	enough := func() bool { // a slow disk takes a while to fill segments
		return runs >= 10 && l.Stats().Rotations >= 10 || time.Since(begin) > time.Minute
	}
	for ; time.Since(begin) < 3*time.Second || !enough(); runs++ {
		for _, command := range []string{"verify", "stat"} {
			r := decode[report](t, expect(t, 0, "wal", command, "--json", o.Dir).stdout)
			if !r.Whole || len(r.BadPlaces) != 0 || len(r.Groups) != 1 {
				t.Fatalf("%s gives %+v", command, r)
			}
		}
		sequence, file := uint64(0), ""
		for _, line := range lines(expect(t, 0, "wal", "dump", "--json", o.Dir).stdout) {
			f := decode[frame](t, line)
			if f.Condition == wal.FrameTorn {
				continue
			}
			// Where a segment went while it was read, the frames go on in the next one.
			follows := f.Sequence == sequence+1 || f.File != file && f.Sequence > sequence
			if f.Condition != wal.FrameWhole || !follows {
				t.Fatalf("after frame %d: %q", sequence, line)
			}
			sequence, file = f.Sequence, f.File
		}
	}
	t.Logf("%d rounds during %d rotations", runs, l.Stats().Rotations)
	if l.Stats().Rotations < 10 {
		t.Errorf("only %d rotations", l.Stats().Rotations)
	}
}

// snapshotOf lists all that a directory tree holds, with sizes, times and bytes.
func snapshotOf(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, path, info.Size(), info.Mode(), info.ModTime().UnixNano())
		if info.IsDir() {
			return nil
		}
		content, err := os.ReadFile(path)
		fmt.Fprintln(&b, hex.EncodeToString(hash(content)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
