package main_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connectraft/connect/wal"
	"go.etcd.io/raft/v3/raftpb"
)

func hash(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

// logFiles are the files of a log, by name, as they lie on the disk.
type logFiles map[string][]byte

func filesOf(t testing.TB, dir string) logFiles {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(logFiles)
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// write makes a directory of the files.
func (f logFiles) write(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range f {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (f logFiles) clone() logFiles {
	c := make(logFiles)
	for name, content := range f {
		c[name] = bytes.Clone(content)
	}
	return c
}

// find tells where the data of an entry stands.
func (f logFiles) find(t testing.TB, what []byte) (string, int) {
	t.Helper()
	for name, content := range f {
		if at := bytes.Index(content, what); at >= 0 && strings.HasSuffix(name, ".wal") {
			return name, at
		}
	}
	t.Fatalf("%.30q is in no segment", what)
	return "", 0
}

// Where things stand in front of the data of the only entry of a frame.
const (
	entryHeader = 16
	frameHeader = 112
)

// faults are the rows of the table in the README: what is done to a log of 100 entries.
var faults = []struct {
	name string
	// killed and closed are the exit codes for a log that was killed and for one that was closed.
	killed, closed int
	// first and last are the entries that the damage names.
	first, last uint64
	do          func(t testing.TB, f logFiles)
}{
	{"one bit flipped in the payload of entry 50", 1, 1, 50, 50, func(t testing.TB, f logFiles) {
		name, at := f.find(t, data(4, 50))
		f[name][at+100] ^= 4
	}},
	{"one bit flipped in the length of entry 50", 1, 1, 50, 50, func(t testing.TB, f logFiles) {
		name, at := f.find(t, data(4, 50))
		f[name][at-entryHeader+4] ^= 1
	}},
	{"one bit flipped in the type of the frame of entry 50", 1, 1, 50, 50,
		func(t testing.TB, f logFiles) {
			name, at := f.find(t, data(4, 50))
			f[name][at-entryHeader-frameHeader+4] ^= 1
		}},
	{"the length of entry 50 reads zero", 1, 1, 50, 50, func(t testing.TB, f logFiles) {
		name, at := f.find(t, data(4, 50))
		clear(f[name][at-entryHeader+4 : at-entryHeader+8])
	}},
	{"the length of the frame of entry 50 reads zero", 1, 1, 50, 50, func(t testing.TB, f logFiles) {
		name, at := f.find(t, data(4, 50))
		clear(f[name][at-entryHeader-frameHeader : at-entryHeader-frameHeader+4])
	}},
	{"a 512 B sector in the middle reads zero", 1, 1, 50, 50, func(t testing.TB, f logFiles) {
		name, at := f.find(t, data(4, 50))
		at -= at % 512
		clear(f[name][at : at+512])
	}},
	{"torn tail: the last 7 bytes are missing", 0, 1, 100, 100, func(t testing.TB, f logFiles) {
		name, at := f.find(t, data(4, 100))
		f[name] = f[name][:at+len(data(4, 100))-7]
	}},
	{"file extended with zeros", 0, 0, 0, 0, func(t testing.TB, f logFiles) {
		name, _ := f.find(t, data(4, 100))
		f[name] = append(f[name], make([]byte, 1<<20)...)
	}},
	// How far the log reached is known up to the floor, which lags behind in a log that was killed.
	{"the tail segment's file is gone", 1, 1, 0, 0, func(t testing.TB, f logFiles) {
		name, _ := f.find(t, data(4, 100))
		delete(f, name)
	}},
	{"a segment in the middle is gone", 1, 1, 0, 0, func(t testing.TB, f logFiles) {
		name, _ := f.find(t, data(4, 50))
		delete(f, name)
	}},
}

func TestFaults(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wal")
	l := open(t, options(dir))
	fill(t, l, 5, 1, 1)
	fill(t, l, 4, 1, 100)
	killed := filesOf(t, dir)
	closeLog(t, l)
	closed := filesOf(t, dir)
	for _, fault := range faults {
		for state, files := range map[string]logFiles{"killed": killed, "closed": closed} {
			t.Run(fault.name+"/"+state, func(t *testing.T) {
				code := fault.killed
				if state == "closed" {
					code = fault.closed
				}
				files := files.clone()
				fault.do(t, files)
				checkFault(t, files.write(t), code, fault.first, fault.last)
			})
		}
	}
}

// checkFault runs every command on a log, and compares them with each other and with Open.
func checkFault(t *testing.T, dir string, code int, first, last uint64) {
	before := snapshotOf(t, dir)
	r := decode[report](t, expect(t, code, "wal", "verify", "--json", dir).stdout)
	text := expect(t, code, "wal", "verify", dir).stdout
	expect(t, code, "wal", "stat", dir)
	dump := expect(t, code, "wal", "dump", dir)
	if snapshotOf(t, dir) != before {
		t.Error("the directory has changed")
	}
	l, err := wal.Open(options(dir))
	if err == nil {
		defer closeLog(t, l)
	}
	if code == 0 {
		if err != nil || !r.Whole || len(r.Damage) != 0 || !strings.HasSuffix(text, " is whole\n") {
			t.Errorf("open: %v; verify: %+v", err, r)
		}
		return
	}
	opened, ok := errors.AsType[*wal.DamageError](err)
	if !ok || r.Whole || len(r.Damage) == 0 {
		t.Fatalf("open: %v; verify: %+v", err, r)
	}
	d := r.Damage[0]
	if d.Group != opened.Group || d.FirstIndex != opened.FirstIndex ||
		d.LastIndex != opened.LastIndex || d.Floor != opened.Floor || d.Group != 4 ||
		first != 0 && d.FirstIndex != first || last != 0 && d.LastIndex != last {
		t.Errorf("damage is %+v, open says %+v", *d, *opened)
	}
	line := fmt.Sprintf("DAMAGE: %s at offset %d: group 4 lost entries %d to %d", d.File, d.Offset,
		d.FirstIndex, d.LastIndex)
	for _, out := range []string{text, dump.stderr} {
		if !strings.Contains(out, line) || !strings.Contains(out, d.Expected) ||
			!strings.Contains(out, d.Found) {
			t.Errorf("%q is not in %q", line, out)
		}
	}
}

// TestCloseAfterSeal closes a log right behind the append that has sealed a segment.
func TestCloseAfterSeal(t *testing.T) {
	for index := range uint64(10) {
		dir := t.TempDir()
		l := open(t, options(dir))
		fill(t, l, 4, 1, index+1)
		sealed := l.Stats().Rotations
		for i := index + 2; l.Stats().Rotations == sealed; i++ {
			fill(t, l, 4, i, i)
		}
		closeLog(t, l)
		expect(t, 0, "wal", "verify", dir)
	}
}

// TestFramesInUserData tears an entry that holds what looks like frames.
func TestFramesInUserData(t *testing.T) {
	dir := t.TempDir()
	l := open(t, options(dir))
	fill(t, l, 4, 1, 9)
	name, at := filesOf(t, dir).find(t, data(4, 5))
	frames := filesOf(t, dir)[name][512 : at+512]
	tail := &raftpb.Entry{Index: new(uint64(10)), Term: new(uint64(2)),
		Type: raftpb.EntryNormal.Enum(), Data: append([]byte("the tail"), frames...)}
	appendOne(t, l, wal.Update{Group: 4, Entries: []*raftpb.Entry{tail}})
	files := filesOf(t, dir)
	name, at = files.find(t, []byte("the tail"))
	files[name][at] ^= 1
	torn := files.write(t)
	r := decode[report](t, expect(t, 0, "wal", "verify", "--json", torn).stdout)
	if r.Groups[0].LastIndex != 9 || r.Entries != 9 || r.Torn == nil || r.Torn.FirstIndex != 10 {
		t.Errorf("verify gives %+v, torn %+v", r, r.Torn)
	}
}
