package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// The table is printed by scripts/faults.sh. The columns of the other libraries were measured in
// 2026 with 100 acknowledged one-entry batches, one fault, and a normal open by each library's own
// path.

// faultRow is one row: what is done to the real files, and what must come of it.
type faultRow struct {
	name string
	// run prepares a log in dir, applies the fault, and says what a normal open and use gives.
	run func(t *testing.T, dir string) outcome
	// want is what the outcome must be.
	want outcome
	// peers are the cells of the other libraries.
	peers peers
}

// peers are the cells of raft-wal, raft-boltdb v2, etcd wal and tidwall/wal.
type peers [4]string

// outcome is how a log came out of a fault.
type outcome string

const (
	// whole: opens, all 100 entries are there and identical, and it takes more.
	whole outcome = "opens, all 100 entries identical"
	// refused: Open returns a DamageError and changes nothing.
	refused outcome = "refuses to open: typed error with file, offset, group and index range"
	// cutTorn: opens without the write that was torn, and takes more.
	cutTorn outcome = "opens without the torn write, all 99 entries before it identical"
	// retried: the append gets ErrDiskFull, and the same append succeeds when there is room again.
	retried outcome = "the append gets a typed retryable error; the retry succeeds, no restart"
)

const tableEntries = 100

var faultRows = []faultRow{
	{"one bit flipped in the payload of entry 50", onFrame(50, func(f frameBytes) {
		f.data[0] ^= 4
	}), refused, peers{"wrong bytes, no error", "wrong bytes, no error",
		"refuses to start (right, but the node is down)", "wrong bytes, no error"}},
	{"one bit flipped in the type of entry 50", onFrame(50, func(f frameBytes) {
		f.header[4] ^= 8
	}), refused, peers{"opens with last=49: 51 acknowledged entries gone, no error", "–",
		"repair cuts 51 acknowledged entries, one info line", "undefined"}},
	{"one bit flipped in the length of entry 50", onFrame(50, func(f frameBytes) {
		f.header[0] ^= 8
	}), refused, peers{"opens with last=49: 51 acknowledged entries gone, no error", "–",
		"repair cuts 51 acknowledged entries, one info line", "undefined"}},
	{"the length of entry 50 reads zero", onFrame(50, func(f frameBytes) {
		clear(f.header[:4])
	}), refused, peers{"opens with last=49: 51 acknowledged entries gone, no error", "–",
		"err=nil, 51 entries gone", "–"}},
	{"a 512 B sector in the middle reads zero", onFrame(50, func(f frameBytes) {
		clear(f.sector)
	}), refused, peers{"opens with last=49: 51 acknowledged entries gone, no error", "–",
		"repair cuts 52 acknowledged entries", "–"}},
	{"torn tail (last 7 bytes missing)", onFrame(100, func(f frameBytes) {
		clear(f.data[len(f.data)-7:])
	}), cutTorn, peers{"recovers", "recovers", "recovers", "the whole log is unusable"}},
	{"file extended with zeros", extended, whole,
		peers{"recovers", "recovers", "recovers", "4,096 phantom entries"}},
	{"the tail segment's file is gone", tailGone, refused,
		peers{"opens silently empty", "–", "–", "–"}},
	{"Close right after the append that seals a segment", closeAtSeal, whole,
		peers{"29 of 30 logs refuse every later append", "–", "–", "–"}},
	{"creating the next segment fails once (disk full, then space again)", createFails, retried,
		peers{"every append fails until restart", "error, retry works", "the process exits",
			"–"}},
	{"a torn batch whose user bytes look like frames", frameLikeBytes, cutTorn,
		peers{"19 phantom entries", "–", "safe", "–"}},
}

// TestFaultTable runs every row on the file system of the host, and prints the table.
func TestFaultTable(t *testing.T) {
	table := "| fault | Connect | raft-wal | raft-boltdb v2 | etcd wal (with its automatic" +
		" repair) | tidwall/wal |\n|---|---|---|---|---|---|\n"
	for _, row := range faultRows {
		t.Run(row.name, func(t *testing.T) {
			got := row.run(t, t.TempDir())
			if got != row.want {
				t.Errorf("the log %s; want: %s", got, row.want)
			}
			cells := append([]string{row.name, string(got)}, row.peers[:]...)
			table += "| " + strings.Join(cells, " | ") + " |\n"
		})
	}
	fmt.Print(table)
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), table) {
		t.Error("the README does not show this table")
	}
}

func tableOptions(fs vfs.FS, dir string) wal.Options {
	return wal.Options{
		FS: fs, Dir: dir, SegmentBytes: 1 << 20,
		Identity: wal.Identity{ClusterID: "table", NodeID: 1},
	}
}

func tableData(index uint64) []byte {
	return fmt.Appendf(nil, "<payload of entry %04d: what a client was told is safe>", index)
}

func appendOne(log *wal.Log, index uint64) error {
	entry := &raftpb.Entry{Index: &index, Term: new(uint64(1)), Data: tableData(index)}
	state := wal.State{Term: 1, Vote: 1, Commit: index}
	u := wal.Update{Group: 1, State: &state, Entries: []*raftpb.Entry{entry}}
	return log.Append([]wal.Update{u}, true)
}

// writeTable acknowledges 100 entries and leaves in crashed the files of a process that died behind
// the last acknowledgement.
func writeTable(t *testing.T, o wal.Options) (crashed string) {
	t.Helper()
	o.Inline = true // no worker changes the directory while it is copied
	log, err := wal.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for index := uint64(1); index <= tableEntries; index++ {
		if err := appendOne(log, index); err != nil {
			t.Fatal(err)
		}
	}
	crashed = filepath.Join(t.TempDir(), "crashed")
	if err := os.CopyFS(crashed, os.DirFS(o.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return crashed
}

// judge opens a log as a node with one voter does, reads everything, and appends two entries.
func judge(t *testing.T, o wal.Options) outcome {
	t.Helper()
	log, err := wal.Open(o)
	if damage, ok := errors.AsType[*wal.DamageError](err); ok {
		t.Log(damage)
		if damage.File == "" || damage.Group != 1 || damage.FirstIndex == 0 {
			return outcome(fmt.Sprintf("reports half: %v", damage))
		}
		return refused
	}
	if err != nil {
		return outcome("does not open: " + err.Error())
	}
	defer log.Close()
	last := log.Group(1).LastIndex()
	if wrong := wrongEntry(log, last); wrong != "" {
		return outcome(wrong)
	}
	for index := last + 1; index <= last+2; index++ {
		if err := appendOne(log, index); err != nil {
			return outcome("opens and refuses appends: " + err.Error())
		}
	}
	switch last {
	case tableEntries:
		return whole
	case tableEntries - 1:
		return cutTorn
	}
	return outcome(fmt.Sprintf("opens with last=%d", last))
}

func wrongEntry(log *wal.Log, last uint64) string {
	entries, err := log.Group(1).Entries(1, last+1, 1<<30)
	if err != nil {
		return err.Error()
	}
	for _, entry := range entries {
		if !bytes.Equal(entry.GetData(), tableData(entry.GetIndex())) {
			return fmt.Sprintf("gives wrong bytes for entry %d", entry.GetIndex())
		}
	}
	return ""
}

// frameBytes is where a frame of one entry lies in its file.
type frameBytes struct{ header, data, sector []byte }

// tableHeaderBytes is the size of a frame's header, tableEntryHeaderBytes that of an entry's: see
// frame.go.
const tableHeaderBytes, tableEntryHeaderBytes = 112, 16

// onFrame spoils the frame of an entry in the files of a process that died.
func onFrame(index uint64, spoil func(frameBytes)) func(*testing.T, string) outcome {
	return func(t *testing.T, dir string) outcome {
		crashed := writeTable(t, tableOptions(vfs.OS{}, dir))
		path, file, at := findEntry(t, crashed, index)
		header := at - tableHeaderBytes - tableEntryHeaderBytes
		sector := header / 512 * 512
		spoil(frameBytes{
			header: file[header : header+tableHeaderBytes],
			data:   file[at : at+len(tableData(index))],
			sector: file[sector : sector+512],
		})
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		return judge(t, tableOptions(vfs.OS{}, crashed))
	}
}

// findEntry returns the file that holds an entry, its bytes, and where the entry's data begins.
func findEntry(t *testing.T, dir string, index uint64) (path string, file []byte, at int) {
	t.Helper()
	return findBytes(t, dir, tableData(index))
}

func findBytes(t *testing.T, dir string, data []byte) (path string, file []byte, at int) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.LastIndex(file, data); at >= 0 {
			return path, file, at
		}
	}
	t.Fatalf("%.60q is in no segment of %v", data, paths)
	return "", nil, 0
}

func extended(t *testing.T, dir string) outcome {
	crashed := writeTable(t, tableOptions(vfs.OS{}, dir))
	path, file, _ := findEntry(t, crashed, tableEntries)
	if err := os.Truncate(path, int64(len(file))+1<<20); err != nil {
		t.Fatal(err)
	}
	return judge(t, tableOptions(vfs.OS{}, crashed))
}

// tailGone removes the file with the newest entry, of a stopped log with one segment and of one
// with many. Only a process that dies within a moment of a rotation can lose that file unnoticed.
func tailGone(t *testing.T, dir string) outcome {
	var got outcome
	for _, segmentBytes := range []int64{4096, 1 << 20} {
		o := tableOptions(vfs.OS{}, filepath.Join(dir, fmt.Sprint(segmentBytes)))
		o.SegmentBytes = segmentBytes
		writeTable(t, o)
		path, _, _ := findEntry(t, o.Dir, tableEntries)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if got = judge(t, o); got != refused {
			return got
		}
	}
	return got
}

// closeAtSeal closes 30 logs, each one entry further into a small segment.
func closeAtSeal(t *testing.T, dir string) outcome {
	for n := range 30 {
		o := tableOptions(vfs.OS{}, filepath.Join(dir, fmt.Sprint(n)))
		o.SegmentBytes = 4096
		log, err := wal.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		for index := uint64(1); index <= tableEntries; index++ {
			if err := appendOne(log, index); err != nil {
				return outcome("an append fails: " + err.Error())
			}
			if index != uint64(n)+1 {
				continue
			}
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			if log, err = wal.Open(o); err != nil {
				return outcome("does not open: " + err.Error())
			}
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		if got := judge(t, o); got != whole {
			return got
		}
	}
	return whole
}

// fullOnceFS has no room for new files while full is set.
type fullOnceFS struct {
	vfs.FS
	full bool
}

func (f *fullOnceFS) OpenFile(name string, flag int) (vfs.File, error) {
	if f.full && flag&os.O_CREATE != 0 {
		return nil, &os.PathError{Op: "open", Path: name, Err: vfs.ErrNoSpace}
	}
	return f.FS.OpenFile(name, flag)
}

func createFails(t *testing.T, dir string) outcome {
	fs := &fullOnceFS{FS: vfs.OS{}}
	o := tableOptions(fs, dir)
	o.SegmentBytes, o.ReserveBytes, o.Inline = 4096, -1, true
	log, err := wal.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	failures := 0
	for index := uint64(1); index <= tableEntries; index++ {
		if index == tableEntries/2 {
			fs.full = true // until an append notices
		}
		err := appendOne(log, index)
		if errors.Is(err, wal.ErrDiskFull) {
			failures++
			fs.full = false
			err = appendOne(log, index)
		}
		if err != nil {
			return outcome("an append fails: " + err.Error())
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if got := judge(t, o); got != whole {
		return got
	}
	if failures == 0 {
		return "never noticed"
	}
	return retried
}

// frameLikeBytes appends as user bytes what the log itself wrote for 20 entries, and tears that
// write so that its own header is gone.
func frameLikeBytes(t *testing.T, dir string) outcome {
	o := tableOptions(vfs.OS{}, dir)
	o.Inline = true // no worker changes the directory while it is copied
	log, err := wal.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for index := uint64(1); index < tableEntries; index++ {
		if err := appendOne(log, index); err != nil {
			t.Fatal(err)
		}
	}
	_, file, from := findEntry(t, dir, 60)
	_, _, to := findEntry(t, dir, 80)
	frames := file[from-tableHeaderBytes-tableEntryHeaderBytes : to+512]
	entry := &raftpb.Entry{Index: new(uint64(tableEntries)), Term: new(uint64(1)), Data: frames}
	err = log.Append([]wal.Update{{Group: 1, Entries: []*raftpb.Entry{entry}}}, true)
	if err != nil {
		t.Fatal(err)
	}
	crashed := filepath.Join(t.TempDir(), "crashed")
	if err := errors.Join(os.CopyFS(crashed, os.DirFS(dir)), log.Close()); err != nil {
		t.Fatal(err)
	}
	path, torn, at := findBytes(t, crashed, frames)
	clear(torn[at-tableHeaderBytes-tableEntryHeaderBytes : at])
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Dir = crashed
	return judge(t, o)
}
