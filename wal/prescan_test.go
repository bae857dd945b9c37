package wal_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// TestConcurrentPrescanAgrees spoils a log at many places, and makes the disk refuse to read there: an open
// that reads segments before their turn sees the same log, or the same damage, as one that does not.
func TestConcurrentPrescanAgrees(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	whole := vfs.NewMem()
	o := testOptions(whole)
	o.SegmentBytes = 4 << 10
	inspectedLog(t, o)
	hit := 0
	for _, file := range segmentNames(t, o) {
		o.FS = whole
		image := readFile(t, o, file)
		for at := int64(0); at < int64(len(image)); at += 631 {
			for _, refuse := range []bool{false, true} {
				o.FS = visible(whole)
				if refuse {
					o.FS = refusingFS{FS: o.FS, name: file, at: at}
				} else {
					writeFile(t, o, file, []byte{image[at] ^ 1<<(at%8)}, at)
				}
				if sameAhead(t, o) {
					hit++
				}
				if t.Failed() {
					t.Fatalf("%s at %d, refused %v", file, at, refuse)
				}
			}
		}
	}
	if hit < 20 {
		t.Errorf("only %d damaged logs", hit)
	}
}

// sameAhead opens a log both ways and compares, and returns whether it is damaged.
func sameAhead(t *testing.T, o wal.Options) bool {
	t.Helper()
	fs := o.FS
	var told []string
	damaged := false
	for _, inline := range []bool{true, false} {
		for _, repair := range []bool{false, true} {
			o.Inline, o.Repair, o.FS = inline, repair, fs
			switch fs := fs.(type) {
			case *vfs.Mem:
				o.FS = visible(fs)
			case refusingFS:
				o.FS = refusingFS{FS: visible(fs.FS.(*vfs.Mem)), name: fs.name, at: fs.at}
			}
			l, err := wal.Open(o)
			damaged = damaged || err != nil
			told = append(told, tell(t, l, err))
		}
	}
	if told[0] != told[2] || told[1] != told[3] {
		t.Errorf("in one goroutine:\n%s\n%s\nin several:\n%s\n%s", told[0], told[1], told[2], told[3])
	}
	return damaged
}

// tell describes all that a log shows, and closes it.
func tell(t *testing.T, l *wal.Log, err error) string {
	t.Helper()
	if err != nil {
		return err.Error()
	}
	defer closeLog(t, l)
	var b strings.Builder
	for _, id := range l.Groups() {
		g := l.Group(id)
		fmt.Fprintln(&b, id, g.State(), g.Mark().Index, g.FirstIndex(), g.LastIndex(), g.Damage())
		list, err := g.Entries(g.FirstIndex(), g.LastIndex()+1, 1<<30)
		fmt.Fprintln(&b, list, err)
	}
	return b.String()
}

// refusingFS is a disk that does not read the byte at an offset of a file.
type refusingFS struct {
	vfs.FS
	name string
	at   int64
}

func (r refusingFS) OpenFile(name string, flag int) (vfs.File, error) {
	f, err := r.FS.OpenFile(name, flag)
	if err != nil || filepath.Base(name) != r.name {
		return f, err
	}
	return refusingFile{File: f, at: r.at}, nil
}

type refusingFile struct {
	vfs.File
	at int64
}

func (r refusingFile) ReadAt(p []byte, off int64) (int, error) {
	if r.at >= off && r.at < off+int64(len(p)) {
		return 0, vfs.ErrIO
	}
	return r.File.ReadAt(p, off)
}

// TestPrescanOfManyFrames has more frames in a segment than are kept of one that is read before its
// turn, and counts what Progress tells.
func TestPrescanOfManyFrames(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	o := testOptions(vfs.NewMem())
	o.SegmentBytes = 16 << 20
	l := open(t, o)
	const groups, rounds = 2000, 150
	term := uint64(0)
	for range rounds {
		term++
		var updates []wal.Update
		for id := uint64(1); id <= groups; id++ {
			updates = append(updates, wal.Update{Group: id, State: &wal.State{Term: term, Vote: id}})
		}
		if err := l.Append(updates, false); err != nil {
			t.Fatal(err)
		}
	}
	if n := l.Stats().Segments; n < 3 {
		t.Fatalf("%d segments", n)
	}
	closeLog(t, l)
	o.Inline = false
	calls, last, total := 0, int64(0), int64(0)
	o.Progress = func(done, of int64) {
		calls++
		if done < last || done > of {
			t.Errorf("progress %d of %d after %d", done, of, last)
		}
		last, total = done, of
	}
	l = open(t, o)
	if calls == 0 || last != total {
		t.Errorf("progress ended with %d of %d", last, total)
	}
	for id := uint64(1); id <= groups; id++ {
		if s := l.Group(id).State(); s != (wal.State{Term: term, Vote: id}) {
			t.Fatalf("group %d has state %+v", id, s)
		}
	}
	closeLog(t, l)
}

// TestConcurrentPrescanEndsWithOpen: an open that fails leaves nothing behind that reads its files.
func TestConcurrentPrescanEndsWithOpen(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	fs := vfs.NewMem()
	o := testOptions(fs)
	inspectedLog(t, o)
	o.Inline = false
	for n := 1; n < 100; n++ {
		remove := fs.Inject(vfs.Fault{Ops: vfs.OpRead, Nth: n, Times: -1,
			Do: vfs.Effect{Err: vfs.ErrIO}})
		l, err := wal.Open(o)
		remove()
		if err == nil {
			closeLog(t, l)
			continue
		}
		if n := fs.OpenHandles(); n != 0 {
			t.Fatalf("%d files are open after %v", n, err)
		}
		if !errors.Is(err, vfs.ErrIO) && !isDamage(err) {
			t.Fatal(err)
		}
	}
}
