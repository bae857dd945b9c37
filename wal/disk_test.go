package wal_test

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
	"go.etcd.io/raft/v3/raftpb"
)

func TestFailedSyncPoisons(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l := open(t, o)
	appendEach(t, l, 1, 1, 5, 1, 50)
	fs.Inject(vfs.Fault{Ops: vfs.OpSyncData, Do: vfs.SyncFailsOnce()})
	first := l.Append([]wal.Update{{Group: 1, Entries: entries(1, 6, 6, 1, 50)}}, true)
	if !errors.Is(first, wal.ErrPoisoned) || !errors.Is(first, syscall.EIO) {
		t.Fatalf("append with a failed sync: %v", first)
	}
	for name, call := range map[string]func() error{
		"append":  func() error { return l.Append(nil, true) },
		"compact": func() error { return l.Compact(1, 2) },
		"remove":  func() error { return l.RemoveGroup(1) },
		"mend":    func() error { return l.Mend(1, nil) },
		"unfence": func() error { return l.Unfence(1) },
		"err":     l.Err,
	} {
		if err := call(); err == nil || err.Error() != first.Error() {
			t.Errorf("%s behind it: %v", name, err)
		}
	}
	if last := l.Group(1).LastIndex(); last != 5 {
		t.Errorf("the failed append is visible: last index %d", last)
	}
	if s := l.SyncStarted(); !s.IsZero() {
		t.Errorf("a sync is in flight since %v", s)
	}
	closeLog(t, l)
	// The kernel takes the pages of the failed sync for clean: a later sync proves nothing about
	// them. What Open finds has to stand on syncs of its own.
	l = open(t, o)
	last := l.Group(1).LastIndex()
	if last < 5 {
		t.Fatalf("entries up to %d, 5 were acknowledged", last)
	}
	for image := range fs.CrashImages(vfs.ImagePolicy{Classes: vfs.ClassNone}) {
		o.FS = image.FS
		again := open(t, o)
		expectEntries(t, again.Group(1), entries(1, 1, last, 1, 50))
	}
}

func TestFailedWritePoisons(t *testing.T) {
	fs := vfs.NewMem()
	l := open(t, testOptions(fs))
	appendEach(t, l, 1, 1, 5, 1, 50)
	fs.Inject(vfs.Fault{Ops: vfs.OpWrite, Do: vfs.Effect{Err: vfs.ErrNoSpace, Short: 10}})
	err := l.Append([]wal.Update{{Group: 1, Entries: entries(1, 6, 6, 1, 50)}}, true)
	if !errors.Is(err, wal.ErrPoisoned) {
		t.Fatalf("append with a short write: %v", err)
	}
}

// TestFullDisk fills the disk, votes and compacts on it, and goes on when there is room again.
func TestFullDisk(t *testing.T) {
	inlineOrNot(t, fullDisk)
}

// inlineOrNot tests a new log that prepares its segments inline, and one that has a goroutine for
// that.
func inlineOrNot(t *testing.T, test func(t *testing.T, fs *vfs.Mem, o wal.Options, l *wal.Log)) {
	inTime(t, true, test)
	inTime(t, false, test)
}

// inTime tests a new log in virtual time.
func inTime(t *testing.T, inline bool,
	test func(t *testing.T, fs *vfs.Mem, o wal.Options, l *wal.Log)) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		o := testOptions(fs)
		o.Inline = inline
		l := open(t, o)
		synctest.Wait()
		test(t, fs, o, l)
	})
}

func fullDisk(t *testing.T, fs *vfs.Mem, o wal.Options, l *wal.Log) {
	fs.SetLimit(fs.Used() + 3*o.SegmentBytes)
	last := fill(t, l, 1)
	if !l.Full() || !l.Stats().Full {
		t.Fatal("the log does not say that it is full")
	}
	// Votes and configuration changes go on, past the end of the active segment.
	rotations := l.Stats().Rotations
	for i := uint64(1); i <= 10; i++ {
		mustAppend(t, l, wal.Update{Group: 2, State: &wal.State{Term: i, Vote: i}})
	}
	if l.Stats().Rotations == rotations {
		t.Fatal("the votes did not need the ballast")
	}
	change := entry(1, last+1, 1, 20)
	change.Type = raftpb.EntryConfChangeV2.Enum()
	mustAppend(t, l, wal.Update{Group: 1, Entries: []*raftpb.Entry{change}})
	command := wal.Update{Group: 1, Entries: entries(1, last+2, last+2, 1, 400)}
	if err := l.Append([]wal.Update{command}, true); err != nil && !errors.Is(err, wal.ErrDiskFull) {
		t.Fatalf("command on a full disk: %v", err)
	}
	last = fill(t, l, l.Group(1).LastIndex()+1)
	// Compaction brings the space back, and the log sees that by itself.
	if err := l.Compact(1, last); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // virtual time
	synctest.Wait()
	appendEach(t, l, 1, last+1, last+20, 1, 400)
	if l.Full() {
		t.Fatal("still full")
	}
	l = reopen(t, l, o)
	expectEntries(t, l.Group(1), entries(1, last+1, last+20, 1, 400))
	if s := l.Group(2).State(); s.Term != 10 || s.Vote != 10 {
		t.Fatalf("votes of the full disk are lost: %+v", s)
	}
	closeLog(t, l)
}

// fill appends from first on until the disk is full, and returns the last index.
func fill(t *testing.T, l *wal.Log, first uint64) uint64 {
	t.Helper()
	for i := first; i < first+1000; i++ {
		err := l.Append([]wal.Update{{Group: 1, Entries: entries(1, i, i, 1, 400)}}, true)
		if errors.Is(err, wal.ErrDiskFull) {
			if l.Group(1).LastIndex() != i-1 || l.Err() != nil {
				t.Fatalf("the refused append changed something: last %d", l.Group(1).LastIndex())
			}
			return i - 1
		}
		if err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
		synctest.Wait()
	}
	t.Fatal("the disk does not become full")
	return 0
}

// TestRoomIsFoundWithoutCommands gives a full disk room again while nobody appends a command: the log
// finds it by its timer, or inline with the next append, whatever that carries.
func TestRoomIsFoundWithoutCommands(t *testing.T) {
	inlineOrNot(t, func(t *testing.T, fs *vfs.Mem, o wal.Options, l *wal.Log) {
		fs.SetLimit(fs.Used() + 2*o.SegmentBytes)
		fill(t, l, 1)
		fs.SetLimit(0)
		time.Sleep(2 * time.Second) // virtual time
		synctest.Wait()
		if full := l.Full(); full != o.Inline {
			t.Errorf("the log is full: %v, want %v", full, o.Inline)
		}
		mustAppend(t, l)
		if l.Full() {
			t.Error("the log still says that it is full")
		}
		closeLog(t, l)
	})
}

// TestOpenOnFullDisk crashes on a full disk; the new segment that recovery needs comes out of the
// ballast.
func TestOpenOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		o := testOptions(fs)
		l := open(t, o)
		fs.SetLimit(fs.Used() + 2*o.SegmentBytes)
		last := fill(t, l, 1)
		crash(fs, l)
		l = open(t, o)
		expectEntries(t, l.Group(1), entries(1, 1, last, 1, 400))
		mustAppend(t, l, wal.Update{Group: 1, State: &wal.State{Term: 2, Vote: 3}})
		closeLog(t, l)
	})
}

// TestSegmentCreationFailsOnce is a disk that is full for a moment while a segment is prepared.
func TestSegmentCreationFailsOnce(t *testing.T) {
	inlineOrNot(t, func(t *testing.T, fs *vfs.Mem, _ wal.Options, l *wal.Log) {
		fs.Inject(vfs.Fault{Ops: vfs.OpPreallocate, Do: vfs.Effect{Err: vfs.ErrNoSpace}})
		for i := uint64(1); i <= 100; i++ {
			u := []wal.Update{{Group: 1, Entries: entries(1, i, i, 1, 400)}}
			err := l.Append(u, true)
			for range 3 {
				if !errors.Is(err, wal.ErrDiskFull) {
					break
				}
				time.Sleep(time.Second) // virtual time
				err = l.Append(u, true)
			}
			if err != nil {
				t.Fatalf("append %d: %v", i, err)
			}
		}
		expectEntries(t, l.Group(1), entries(1, 1, 100, 1, 400))
		closeLog(t, l)
	})
}

// TestNoFileHandleForSegment has too many files open when segments are to be made: commands are
// refused while nothing is written, and taken again when there are handles.
func TestNoFileHandleForSegment(t *testing.T) {
	inlineOrNot(t, noFileHandle)
}

func noFileHandle(t *testing.T, fs *vfs.Mem, o wal.Options, l *wal.Log) {
	remove := fs.Inject(vfs.Fault{Ops: vfs.OpOpen, Glob: "*.wal*", Times: -1,
		Do: vfs.Effect{Err: vfs.ErrNoHandles}})
	last := fill(t, l, 1)
	if !l.Full() {
		t.Error("the log does not say that it is full")
	}
	vote := wal.Update{Group: 1, State: &wal.State{Term: 2, Vote: 2}}
	mustAppend(t, l, vote)
	// A vote that needs the next segment is refused too, and leaves the ballast alone.
	var err error
	for term := uint64(3); err == nil && term < 1000; term++ {
		vote.State = &wal.State{Term: term, Vote: 2}
		err = l.Append([]wal.Update{vote}, true)
	}
	if !errors.Is(err, wal.ErrDiskFull) || !errors.Is(err, vfs.ErrNoHandles) || l.Err() != nil {
		t.Fatalf("append without a file handle: %v, log: %v", err, l.Err())
	}
	if n := len(fileBytes(t, fs, o.Dir+"/ballast")); n == 0 {
		t.Error("the ballast was given up")
	}
	remove()
	time.Sleep(3 * time.Second) // virtual time
	synctest.Wait()
	mustAppend(t, l, vote)
	for i := last + 1; i <= last+40; i++ {
		mustAppend(t, l, wal.Update{Group: 1, Entries: entries(1, i, i, 1, 400)})
	}
	if l.Full() {
		t.Error("the log still says that it is full")
	}
	l = reopen(t, l, o)
	want := append(entries(1, 1, last, 1, 400), entries(1, last+1, last+40, 1, 400)...)
	expectEntries(t, l.Group(1), want)
	if s := l.Group(1).State(); s != *vote.State {
		t.Errorf("state is %+v, want %+v", s, *vote.State)
	}
	closeLog(t, l)
}

// TestSyncStarted looks at the log while a write or a sync hangs.
func TestSyncStarted(t *testing.T) {
	for _, op := range []vfs.OpKind{vfs.OpWrite, vfs.OpSyncData} {
		synctest.Test(t, func(t *testing.T) { hang(t, op) })
	}
}

func hang(t *testing.T, op vfs.OpKind) {
	fs := vfs.NewMem()
	l := open(t, testOptions(fs))
	appendEach(t, l, 1, 1, 1, 1, 50)
	stalled := make(chan struct{})
	fs.Inject(vfs.Fault{Ops: op, Do: vfs.Effect{Hook: func(vfs.Op) { <-stalled }}})
	begin := time.Now()
	result := make(chan error)
	go func() {
		result <- l.Append([]wal.Update{{Group: 1, Entries: entries(1, 2, 2, 1, 50)}}, true)
	}()
	time.Sleep(5 * time.Second) // virtual time
	if s := l.SyncStarted(); !s.Equal(begin) {
		t.Errorf("sync started %v, want %v", s, begin)
	}
	if last := l.Group(1).LastIndex(); last != 1 {
		t.Errorf("last index is %d while the sync hangs", last)
	}
	close(stalled)
	if err := <-result; err != nil {
		t.Error(err)
	}
	if s := l.SyncStarted(); !s.IsZero() {
		t.Errorf("sync in flight since %v", s)
	}
	closeLog(t, l)
}

// TestNewestSegmentLostAfterCrash loses the newest segment of a log that was not closed. The
// superblock may not know all that stood there, so every group is fenced.
func TestNewestSegmentLostAfterCrash(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l := open(t, o)
	appendEach(t, l, 1, 1, 3, 1, 50)
	mustAppend(t, l, wal.Update{Group: 2, State: &wal.State{Term: 7, Vote: 2}})
	crash(fs, l)
	if err := fs.Remove(o.Dir + "/" + segmentNames(t, o)[0]); err != nil {
		t.Fatal(err)
	}
	_, err := wal.Open(o)
	if d := expectDamage(t, err); d.Group != 1 || d.FirstIndex != 1 {
		t.Fatalf("damage is %+v", *d)
	}
	o.Repair = true
	l = open(t, o)
	if l.Group(1).Damage() == nil || l.Group(2).Damage() == nil {
		t.Fatal("a group that lost its log looks fresh")
	}
	if s := l.Group(2).State(); s.Term != 7 || s.Vote != 2 {
		t.Fatalf("the vote is lost: %+v", s)
	}
}

// TestRecyclingWithoutFileHandle sets segments free while no file can be opened: none of their files
// stays behind under a name that nobody uses.
func TestRecyclingWithoutFileHandle(t *testing.T) {
	for _, op := range []vfs.OpKind{vfs.OpOpen, vfs.OpSyncDir} {
		fs := vfs.NewMem()
		o := testOptions(fs)
		l := open(t, o)
		appendEach(t, l, 1, 1, 100, 1, 400)
		remove := fs.Inject(vfs.Fault{Ops: op, Glob: "*", Times: -1,
			Do: vfs.Effect{Err: vfs.ErrNoHandles}})
		if err := l.Compact(1, 100); err != nil {
			t.Fatal(err)
		}
		remove()
		if n, most := len(segmentNames(t, o)), l.Stats().Segments+1; n > most {
			t.Errorf("%v fails: %d files, want at most %d", op, n, most)
		}
		appendEach(t, l, 1, 101, 200, 1, 400)
		l = reopen(t, l, o)
		expectEntries(t, l.Group(1), entries(1, 101, 200, 1, 400))
	}
}
