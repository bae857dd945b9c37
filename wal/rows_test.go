package wal_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
	"go.etcd.io/raft/v3/raftpb"
)

// These tests are the faults that other Go logs are known to get wrong, one test for each, on a log
// of 100 acknowledged appends of one entry.

const (
	rowGroup   = 1
	rowPayload = 200
)

// rowLog writes the log. With close false it is left as a kill leaves it.
func rowLog(t *testing.T, shut bool) wal.Options {
	t.Helper()
	fs := vfs.NewMem()
	o := testOptions(fs)
	o.SegmentBytes = 128 << 10
	l := open(t, o)
	appendEach(t, l, rowGroup, 1, 100, 1, rowPayload)
	if shut {
		closeLog(t, l)
	} else {
		crash(fs, l)
	}
	return o
}

// frameOf returns where the frame of an entry begins.
func frameOf(t *testing.T, o wal.Options, index uint64) (string, int64) {
	t.Helper()
	return findFrame(t, o, payload(rowGroup, index, 1, rowPayload))
}

// expectRefused checks that the log is refused, names entry 50, and with Repair keeps the 49 before
// it, the others aside.
func expectRefused(t *testing.T, o wal.Options, first, last uint64) {
	t.Helper()
	_, err := wal.Open(o)
	if d := expectDamage(t, err); d.FirstIndex != first || d.LastIndex != last || d.Floor != 100 {
		t.Fatalf("damage is %+v", *d)
	}
	o.Repair = true
	l := open(t, o)
	expectFence(t, l.Group(rowGroup), first-1, first, last, last+1, 100)
	if err := l.Mend(rowGroup, entries(rowGroup, first, last+1, 1, rowPayload)); err != nil {
		t.Fatal(err)
	}
	expectEntries(t, l.Group(rowGroup), entries(rowGroup, 1, 100, 1, rowPayload))
}

func expectLog(t *testing.T, o wal.Options, last uint64) {
	t.Helper()
	for range 2 {
		l := open(t, o)
		expectEntries(t, l.Group(rowGroup), entries(rowGroup, 1, last, 1, rowPayload))
		closeLog(t, l)
	}
}

func TestRowBitFlippedInPayload(t *testing.T) {
	o := rowLog(t, true)
	flip(t, o, payload(rowGroup, 50, 1, rowPayload))
	expectRefused(t, o, 50, 50)
}

func TestRowBitFlippedInType(t *testing.T) {
	o := rowLog(t, false)
	name, at := frameOf(t, o, 50)
	writeFile(t, o, name, []byte{readFile(t, o, name)[at+4] ^ 4}, at+4)
	expectRefused(t, o, 50, 50)
}

func TestRowBitFlippedInLength(t *testing.T) {
	o := rowLog(t, false)
	name, at := frameOf(t, o, 50)
	writeFile(t, o, name, []byte{readFile(t, o, name)[at] ^ 8}, at)
	expectRefused(t, o, 50, 50)
}

func TestRowLengthReadsZero(t *testing.T) {
	o := rowLog(t, false)
	name, at := frameOf(t, o, 50)
	writeFile(t, o, name, make([]byte, 4), at)
	expectRefused(t, o, 50, 50)
}

func TestRowSectorReadsZero(t *testing.T) {
	o := rowLog(t, false)
	name, at := frameOf(t, o, 50)
	writeFile(t, o, name, make([]byte, 512), at&^511)
	expectRefused(t, o, 50, 50)
}

func TestRowTornTail(t *testing.T) {
	o := rowLog(t, false)
	name, at := frameOf(t, o, 100)
	truncate(t, o, name, at+128+rowPayload-7)
	expectLog(t, o, 99)
}

func TestRowFileExtendedWithZeros(t *testing.T) {
	for _, shut := range []bool{true, false} {
		o := rowLog(t, shut)
		name, _ := frameOf(t, o, 100)
		truncate(t, o, name, o.SegmentBytes+64<<10)
		expectLog(t, o, 100)
	}
}

func truncate(t *testing.T, o wal.Options, name string, size int64) {
	t.Helper()
	f, err := o.FS.OpenFile(filepath.Join(o.Dir, name), os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(size), f.Sync()); err != nil {
		t.Fatal(err)
	}
}

func TestRowTailSegmentGone(t *testing.T) {
	for _, shut := range []bool{true, false} {
		o := rowLog(t, shut)
		name, _ := frameOf(t, o, 100)
		if err := o.FS.Remove(filepath.Join(o.Dir, name)); err != nil {
			t.Fatal(err)
		}
		_, err := wal.Open(o)
		if d := expectDamage(t, err); d.File != name || d.FirstIndex != 1 {
			t.Fatalf("damage is %+v", *d)
		}
	}
}

// TestRowCloseBehindTheSealingAppend closes after each append around a rotation, and goes on.
func TestRowCloseBehindTheSealingAppend(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.SegmentBytes = 4 << 10
	rotations := uint64(0)
	for i := uint64(1); i <= 40; i++ {
		l := open(t, o)
		appendEach(t, l, rowGroup, i, i, 1, rowPayload)
		rotations += l.Stats().Rotations
		closeLog(t, l)
	}
	if rotations < 3 {
		t.Fatalf("only %d rotations", rotations)
	}
	expectLog(t, o, 40)
}

// TestRowTornBatchOfFrames tears an append whose data is a copy of frames of this very log.
func TestRowTornBatchOfFrames(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	o.SegmentBytes = 128 << 10
	l := open(t, o)
	appendEach(t, l, rowGroup, 1, 100, 1, rowPayload)
	name, from := frameOf(t, o, 80)
	forged := append([]byte("begin of the forged frames"), readFile(t, o, name)[from:from+20*512]...)
	e := entry(rowGroup, 101, 1, 0)
	e.Data = forged
	mustAppend(t, l, wal.Update{Group: rowGroup, Entries: []*raftpb.Entry{e}})
	crash(fs, l)
	_, at := find(t, o, forged)
	writeFile(t, o, name, make([]byte, 200), at-128)
	expectLog(t, o, 100)
}

// TestRowAppendAcrossRotation syncs an append that goes to a new segment while older ones are not
// synced. Then everything that was not synced is lost.
func TestRowAppendAcrossRotation(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l := open(t, o)
	index, before := uint64(0), l.Stats().Rotations
	for l.Stats().Rotations < before+3 {
		index++
		u := []wal.Update{{Group: rowGroup, State: &wal.State{Term: index, Vote: index},
			Entries: entries(rowGroup, index, index, 1, rowPayload)}}
		if err := l.Append(u, false); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, l) // syncs only
	for image := range fs.CrashImages(vfs.ImagePolicy{Classes: vfs.ClassNone}) {
		o.FS = image.FS
		expectLog(t, o, index)
		l := open(t, o)
		if s := l.Group(rowGroup).State(); s.Term != index || s.Vote != index {
			t.Fatalf("the vote is lost: %+v", s)
		}
	}
}

// TestRowRemovedGroupLeavesOthers removes a group whose entries share segments with others.
func TestRowRemovedGroupLeavesOthers(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l := open(t, o)
	for i := uint64(1); i <= 100; i++ {
		mustAppend(t, l, wal.Update{Group: rowGroup, Entries: entries(rowGroup, i, i, 1, rowPayload)},
			wal.Update{Group: 2, Entries: entries(2, i, i, 1, rowPayload)})
	}
	if err := l.RemoveGroup(2); err != nil {
		t.Fatal(err)
	}
	crash(fs, l)
	expectLog(t, o, 100)
}

// TestRowIndexIsRebuilt damages everything that is not a segment.
func TestRowIndexIsRebuilt(t *testing.T) {
	o := rowLog(t, true)
	for _, name := range []string{"superblock.a", "superblock.b"} {
		b := readFile(t, o, name)
		for i := range b {
			b[i] ^= 0x55
		}
		writeFile(t, o, name, b, 0)
	}
	expectLog(t, o, 100)
}

// TestRowRestartOpensEachFileOnce counts what Open opens and reads.
func TestRowRestartOpensEachFileOnce(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	o.SegmentBytes = 16 << 10
	l := open(t, o)
	appendEach(t, l, rowGroup, 1, 100, 1, rowPayload)
	closeLog(t, l)
	opens, reads := 0, 0
	fs.Inject(vfs.Fault{Ops: vfs.OpOpen, Glob: "*.wal", Times: -1,
		Do: vfs.Effect{Hook: func(vfs.Op) { opens++ }}})
	fs.Inject(vfs.Fault{Ops: vfs.OpRead, Glob: "*.wal", Times: -1,
		Do: vfs.Effect{Hook: func(vfs.Op) { reads++ }}})
	files := len(segmentNames(t, o))
	l = open(t, o)
	if opens == 0 || reads == 0 || opens > files || reads > 3*files {
		t.Fatalf("%d opens and %d reads of %d files", opens, reads, files)
	}
	expectEntries(t, l.Group(rowGroup), entries(rowGroup, 1, 100, 1, rowPayload))
}
