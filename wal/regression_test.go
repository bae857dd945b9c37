package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
	"go.etcd.io/raft/v3/raftpb"
)

// movedLog returns the options of a closed log of one segment, to whose end compaction has moved
// the idle entries 1 and 2 of group 9. Before that the group has appended entries up to last
// there.
func movedLog(t *testing.T, last uint64) wal.Options {
	t.Helper()
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	appendEach(t, l, 9, 1, 2, 3, 40)
	written := appendUntilRotation(t, l, 1, 1, 900)
	appendEach(t, l, 9, 3, last, 3, 40)
	if err := l.Compact(1, written); err != nil {
		t.Fatal(err)
	}
	if n := l.Stats().Segments; n != 1 {
		t.Fatalf("%d segments, want the old one to be gone", n)
	}
	closeLog(t, l)
	return o
}

// expectWholeOrDamage opens the log again: what group 9 has of entries 1 to last is there, or the
// open tells of the damage.
func expectWholeOrDamage(t *testing.T, o wal.Options, last uint64) {
	t.Helper()
	l, err := wal.Open(o)
	if err != nil {
		expectDamage(t, err)
		return
	}
	defer l.Close()
	g := l.Group(9)
	if g.Damage() == nil && (g.FirstIndex() != 1 || g.LastIndex() != last) {
		t.Errorf("open is silent, and the group has entries %d to %d, want 1 to %d", g.FirstIndex(),
			g.LastIndex(), last)
	}
}

// TestLostFrameBeforeMovedEntries spoils the header of the last append of a group behind which
// only its moved entries stand: they say nothing of the end of the log, so they prove nothing.
func TestLostFrameBeforeMovedEntries(t *testing.T) {
	o := movedLog(t, 3)
	name, frame := findFrame(t, o, payload(9, 3, 3, 40))
	spoilHeader(t, o, name, frame)
	expectWholeOrDamage(t, o, 3)
}

// TestLostCheckpointBeforeMovedEntries spoils the checkpoint of a group that has nothing behind it
// but its moved entries.
func TestLostCheckpointBeforeMovedEntries(t *testing.T) {
	o := movedLog(t, 2)
	name, at := find(t, o, payload(9, 1, 3, 40))
	b := readFile(t, o, name)
	const second = 512 + 112 // the checkpoint of group 1 is the first
	if group := binary.LittleEndian.Uint64(b[second+32:]); group != 9 || at < second {
		t.Fatalf("the second checkpoint is that of group %d", group)
	}
	spoilHeader(t, o, name, second)
	expectWholeOrDamage(t, o, 2)
}

// TestStalePayloadUnderNewHeader crashes twice in the same file. The first write to a prepared
// segment leaves only sectors without headers, so that the file still counts as prepared; the
// second one leaves only the header of a frame and its first entry, in front of what the first
// has left. The frame as a whole was never written.
func TestStalePayloadUnderNewHeader(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	const torn, size = 2560, 1000
	l := open(t, o)
	next := uint64(1)
	for ; next <= 3; next++ {
		appendEach(t, l, 1, next, next, 3, 1500)
	}
	appendEach(t, l, 1, next, next, 3, 100)
	next++
	// Behind the header, a checkpoint and its own header the first entry ends at torn.
	batch := entries(1, next, next, 3, torn-(1024+112+16))
	batch = append(batch, entries(1, next+1, next+2, 3, size)...)
	if err := l.Append([]wal.Update{{Group: 1, Entries: batch}}, false); err != nil {
		t.Fatal(err)
	}
	name, at := find(t, o, payload(1, next+1, 3, size))
	if at != torn+16 || l.Stats().Rotations != 1 {
		t.Fatalf("entry %d stands at %d of %s, want %d", next+1, at, name, torn+16)
	}
	fs.Kill()
	writeFile(t, o, name, make([]byte, torn), 0)
	stale := readFile(t, o, name)[torn:]

	l = open(t, o)
	end := int64(binary.LittleEndian.Uint64(readFile(t, o, name)[72:]))
	if end == 0 {
		t.Fatal("the file is not used again: there is nothing to confuse")
	}
	batch = entries(1, next, next, 4, int(torn-end-112-16))
	batch = append(batch, entries(1, next+1, next+2, 4, size)...)
	update := wal.Update{Group: 1, State: &wal.State{Term: 4}, Entries: batch}
	if err := l.Append([]wal.Update{update}, false); err != nil {
		t.Fatal(err)
	}
	fs.Kill()
	writeFile(t, o, name, stale, torn)

	l = open(t, o)
	if last := l.Group(1).LastIndex(); last != next-1 {
		t.Errorf("the group ends at %d, want %d: the frame behind it is torn", last, next-1)
	}
}

// TestCleanCloseIsNoProofForLaterAppends closes the log and opens it again on a disk that fails to
// take a superblock. The old one calls the log clean; while that stands nothing may be appended, for
// its loss would not be missed.
func TestCleanCloseIsNoProofForLaterAppends(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l := open(t, o)
	appendEach(t, l, 1, 1, 2, 3, 40)
	closeLog(t, l)
	mend := failSuperblocks(fs)
	if l, err := wal.Open(o); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("open without a superblock: %v, want ErrIO", err)
		if err == nil {
			closeLog(t, l)
		}
	}
	mend()
	expectEntries(t, open(t, o).Group(1), entries(1, 1, 2, 3, 40))
}

// failSuperblocks makes every write of a superblock fail until the returned function is called.
func failSuperblocks(fs *vfs.Mem) (mend func()) {
	return fs.Inject(vfs.Fault{Ops: vfs.OpWrite, Glob: "superblock.*", Times: -1,
		Do: vfs.Effect{Err: vfs.ErrIO}})
}

// TestTornActivationProvesOlderSegment crashes in the write that begins a segment, of which only
// the header is left. A header is written behind the sync of the older segment, so it proves that
// the last append there was durable, although the segment that it heads does not count.
func TestTornActivationProvesOlderSegment(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l := open(t, o)
	appendEach(t, l, 1, 1, 3, 3, 1500)
	appendEach(t, l, 1, 4, 4, 3, 100)
	large := entries(1, 5, 5, 3, 3000)
	if err := l.Append([]wal.Update{{Group: 1, Entries: large}}, false); err != nil {
		t.Fatal(err)
	}
	if l.Stats().Rotations != 1 {
		t.Fatalf("%d rotations, want 1", l.Stats().Rotations)
	}
	fs.Kill()
	writeFile(t, o, segmentNames(t, o)[1], make([]byte, o.SegmentBytes-512), 512)
	flip(t, o, payload(1, 4, 3, 100))
	l, err := wal.Open(o)
	if err == nil {
		t.Errorf("open is silent, and the group ends at %d, acknowledged was 4",
			l.Group(1).LastIndex())
		closeLog(t, l)
		return
	}
	expectDamage(t, err)
}

// TestFirstAppendNeedsItsFloor appends to a group that no superblock lists, on a disk that takes
// none. It must not be acknowledged: without the superblock nobody would miss the group when its
// segment is gone.
func TestFirstAppendNeedsItsFloor(t *testing.T) {
	fs := vfs.NewMem()
	l := open(t, testOptions(fs))
	failSuperblocks(fs)
	err := l.Append([]wal.Update{{Group: 1, State: &wal.State{Term: 3, Vote: 2},
		Entries: entries(1, 1, 2, 3, 40)}}, true)
	if !errors.Is(err, wal.ErrPoisoned) {
		t.Errorf("append to a group that no superblock lists: %v, want ErrPoisoned", err)
	}
}

// TestSegmentWithoutIdentityIsNotFresh loses both superblocks and the header of the only segment.
// Frames are left, so the directory is not that of a new log.
func TestSegmentWithoutIdentityIsNotFresh(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	appendEach(t, l, 1, 1, 3, 3, 40)
	closeLog(t, l)
	name, _ := find(t, o, payload(1, 1, 3, 40))
	writeFile(t, o, name, make([]byte, 512), 0)
	writeFile(t, o, "superblock.a", make([]byte, 8), 0)
	writeFile(t, o, "superblock.b", make([]byte, 8), 0)
	l, err := wal.Open(o)
	if err == nil {
		t.Errorf("open is silent, and the group ends at %d, acknowledged was 3", l.Group(1).LastIndex())
		closeLog(t, l)
	}
}

// TestSuperblockOfLaterVersionIsRefused changes the version of both superblocks to one that does
// not exist yet; their checksums are right.
func TestSuperblockOfLaterVersionIsRefused(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	appendEach(t, l, 1, 1, 3, 3, 40)
	closeLog(t, l)
	for _, name := range []string{"superblock.a", "superblock.b"} {
		b := readFile(t, o, name)
		le := binary.LittleEndian
		size := le.Uint32(b[12:])
		if size == 0 {
			continue
		}
		le.PutUint32(b[8:], 2)
		sum := crc32.Checksum(b[:size-4], crc32.MakeTable(crc32.Castagnoli))
		le.PutUint32(b[size-4:], sum)
		writeFile(t, o, name, b, 0)
	}
	l, err := wal.Open(o)
	if err == nil {
		t.Error("open takes a version that it does not know")
		closeLog(t, l)
	}
}

// tornMove returns a log that has crashed in the write that moves the idle entries 1 and 2 of group
// 9 to its end: of all that it wrote for the group only the first frame is left. Before that the
// group has appended entry 3, whose frame stands there in the file name, and more was done.
func tornMove(t *testing.T, more func(l *wal.Log)) (o wal.Options, name string, frame int64) {
	t.Helper()
	fs := vfs.NewMem()
	o = testOptions(fs)
	l := open(t, o)
	appendEach(t, l, 9, 1, 2, 3, 184) // makes a frame of one sector when it is moved
	last := appendUntilRotation(t, l, 1, 1, 900)
	appendEach(t, l, 9, 3, 3, 3, 40)
	more(l)
	fs.Inject(vfs.Fault{Ops: vfs.OpSyncData, Glob: "*.wal", Do: vfs.Effect{Err: vfs.ErrIO}})
	if err := l.Compact(1, last); err == nil {
		t.Fatal("compaction does not fail")
	}
	fs.Kill()
	name, frame = findFrame(t, o, payload(9, 3, 3, 40))
	moved := int64(bytes.Index(readFile(t, o, name), payload(9, 1, 3, 184))) - 112 - 16
	if moved < frame || moved%512 != 0 {
		t.Fatalf("the frame of moved entries stands at %d", moved)
	}
	writeFile(t, o, name, make([]byte, 512), moved+512)
	return o, name, frame
}

// TestLostFrameBeforeTornMove is TestLostFrameBeforeMovedEntries with a crash in the write that
// moves the entries.
func TestLostFrameBeforeTornMove(t *testing.T) {
	o, name, frame := tornMove(t, func(*wal.Log) {})
	spoilHeader(t, o, name, frame)
	expectWholeOrDamage(t, o, 3)
}

// TestUnreadablePlaces opens logs of which the disk does not read one file any more, as it is with
// a bad sector.
func TestUnreadablePlaces(t *testing.T) {
	fault := func(o wal.Options, name string) {
		o.FS.(*vfs.Mem).Inject(vfs.Fault{Ops: vfs.OpRead, Glob: name, Times: -1,
			Do: vfs.Effect{Err: vfs.ErrIO}})
	}
	t.Run("prepared segment after a clean close", func(t *testing.T) {
		o := testOptions(vfs.NewMem())
		l := open(t, o)
		appendEach(t, l, 1, 1, 3, 3, 40)
		closeLog(t, l)
		fault(o, segmentNames(t, o)[1])
		l, err := wal.Open(o)
		if err != nil {
			t.Fatalf("open stops at a file that the log does not need: %v", err)
		}
		expectEntries(t, l.Group(1), entries(1, 1, 3, 3, 40))
		closeLog(t, l)
	})
	t.Run("old segment with repair", func(t *testing.T) {
		o := testOptions(vfs.NewMem())
		l := open(t, o)
		appendEach(t, l, 2, 1, 1, 3, 40)
		appendUntilRotation(t, l, 1, 3, 1500)
		appendEach(t, l, 3, 1, 1, 3, 40)
		closeLog(t, l)
		fault(o, segmentNames(t, o)[0])
		o.Repair = true
		l, err := wal.Open(o)
		if err != nil {
			t.Fatalf("repair does not open the log: %v", err)
		}
		if l.Group(1).Damage() == nil {
			t.Error("group 1 is not fenced")
		}
		expectEntries(t, l.Group(3), entries(3, 1, 1, 3, 40))
		closeLog(t, l)
	})
}

// TestGroupMadeAnewKeepsNoMembership spoils the frame that removed a group, which was then made
// anew without a mark. The membership of its former life is not that of the new one.
func TestGroupMadeAnewKeepsNoMembership(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	conf := &raftpb.ConfState{Voters: []uint64{1, 2, 3}}
	mustAppend(t, l, wal.Update{Group: 9, Mark: &wal.Mark{ConfState: conf},
		Entries: entries(9, 1, 1, 3, 40)})
	if err := l.RemoveGroup(9); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, wal.Update{Group: 9, Entries: entries(9, 1, 2, 5, 40)})
	closeLog(t, l)
	name, frame := findFrame(t, o, payload(9, 1, 5, 40))
	spoilHeader(t, o, name, frame-512) // of the frame before, in the sector before
	o.Repair = true
	l = open(t, o)
	if got := l.Group(9).Mark().ConfState; got != nil {
		t.Errorf("the group has the membership %v of its former life, damage %v", got,
			l.Group(9).Damage())
	}
}

// TestVoteStandsForItsTerm gives a group a second vote in the same term, and none in place of one.
func TestVoteStandsForItsTerm(t *testing.T) {
	l := open(t, testOptions(vfs.NewMem()))
	mustAppend(t, l, wal.Update{Group: 1, State: &wal.State{Term: 5, Vote: 2}})
	for _, vote := range []uint64{3, 0} {
		err := l.Append([]wal.Update{{Group: 1, State: &wal.State{Term: 5, Vote: vote}}}, true)
		if !errors.Is(err, wal.ErrInvalid) {
			t.Errorf("vote %d after vote 2 in one term: %v, want ErrInvalid", vote, err)
		}
	}
}

// TestFloorDoesNotTakeStateBack loses two frames of a group, of which the superblock knows the
// first alone. The frame of moved entries behind them tells a later state, and that one counts.
func TestFloorDoesNotTakeStateBack(t *testing.T) {
	o, name, frame := tornMove(t, func(l *wal.Log) {
		appendEach(t, l, 50, 1, 1, 3, 40) // a new group, so the superblock is written
		mustAppend(t, l, wal.Update{Group: 9, State: &wal.State{Term: 9, Vote: 2, Commit: 2}})
	})
	b := readFile(t, o, name)
	for _, at := range []int64{frame, frame + 1024} {
		if group := binary.LittleEndian.Uint64(b[at+32:]); group != 9 {
			t.Fatalf("the frame at %d is of group %d", at, group)
		}
		spoilHeader(t, o, name, at)
	}
	o.Repair = true
	l := open(t, o)
	if got := l.Group(9).State(); got.Term != 9 || got.Vote != 2 {
		t.Errorf("the state is %+v, a frame that is there says term 9 and vote 2", got)
	}
}

// TestNewGroupOnFullDisk makes groups on a disk without room for a larger superblock. Whatever
// that means for the new group, the log goes on.
func TestNewGroupOnFullDisk(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	o.SegmentBytes, o.ReserveBytes = 256<<10, -1
	l := open(t, o)
	appendEach(t, l, 1, 1, 1, 3, 40)
	fs.SetLimit(fs.Used())
	for group := uint64(2); group <= 100; group++ {
		err := l.Append([]wal.Update{{Group: group, State: &wal.State{Term: 1, Vote: 1}}}, true)
		if err != nil && !errors.Is(err, wal.ErrDiskFull) {
			t.Fatalf("group %d: %v, want nothing or ErrDiskFull", group, err)
		}
	}
	appendEach(t, l, 1, 2, 2, 3, 40)
}
