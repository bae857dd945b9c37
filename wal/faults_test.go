package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

const faultSteps = 40

// opsOnDisk are the operations that a device may fail.
const opsOnDisk = vfs.OpWrite | vfs.OpTruncate | vfs.OpPreallocate | vfs.OpCreate | vfs.OpRemove |
	vfs.OpRename | vfs.OpAnySync | vfs.OpRead | vfs.OpOpen | vfs.OpList | vfs.OpMkdir

// eachFault runs a workload once for each n with the fault hitting the nth operation, until a
// workload ends without being hit, and lets outcome judge the workload.
func eachFault(t *testing.T, fault vfs.Fault, outcome func(t *testing.T, w *workload)) {
	t.Helper()
	eachFaultIn(t, fault, func() *workload { return unopenedWorkload(t, 3) }, outcome)
}

func eachFaultIn(
	t *testing.T, fault vfs.Fault, begin func() *workload,
	outcome func(t *testing.T, w *workload),
) {
	t.Helper()
	for n := 1; ; n++ {
		w := begin()
		w.mayFail = true
		hit := false
		fault.Nth = n
		f := fault
		f.Do.Hook = func(vfs.Op) { hit = true }
		remove := w.fs.Inject(f)
		w.open()
		if w.err == nil {
			w.run(faultSteps)
		}
		remove()
		if !hit {
			if n < 20 {
				t.Fatalf("only %d operations to fail", n)
			}
			return
		}
		outcome(t, w)
		if t.Failed() {
			t.Fatalf("with the fault in operation %d", n)
		}
	}
}

// expectSurvival kills the process after a fault and wants everything acknowledged: after the kill,
// after a power cut behind the recovery, and after every power cut instead of the kill.
func expectSurvival(t *testing.T, w *workload) {
	t.Helper()
	want := w.boundsAt(w.recording.Len())
	w.recording.Stop()
	for image := range w.fs.CrashImages(recoveryPolicy) {
		if _, err := w.checkImage(image.FS, want); err != nil {
			t.Fatalf("power cut after %v, image %v: %v", w.err, image, err)
		}
	}
	w.fs.Kill()
	if _, err := w.checkImage(w.fs, want); err != nil {
		t.Fatalf("kill after %v: %v", w.err, err)
	}
}

// expectPoisoned wants every call of a log that failed to return the first error.
func expectPoisoned(t *testing.T, w *workload) {
	t.Helper()
	if !errors.Is(w.err, wal.ErrPoisoned) {
		t.Fatalf("the workload ended with %v, want ErrPoisoned", w.err)
	}
	err := w.log.Append(nil, true)
	if !errors.Is(err, wal.ErrPoisoned) || err.Error() != w.log.Err().Error() {
		t.Fatalf("append on a poisoned log: %v, want %v", err, w.log.Err())
	}
}

func TestFaultEIOAtEveryOperation(t *testing.T) {
	poisoned := 0
	fault := vfs.Fault{Ops: opsOnDisk, Do: vfs.Effect{Err: vfs.ErrIO}}
	eachFault(t, fault, func(t *testing.T, w *workload) {
		if w.log != nil && w.log.Err() != nil {
			poisoned++
			expectPoisoned(t, w)
		} else if w.err != nil && !errors.Is(w.err, vfs.ErrIO) {
			t.Fatalf("the workload ended with %v", w.err)
		}
		expectSurvival(t, w)
	})
	if poisoned < 10 {
		t.Errorf("only %d faults poisoned the log", poisoned)
	}
}

// TestFaultSyncFailsOnceThenLies holds requirement 8: the failed sync is not tried again, and the
// next open writes anew what may be clean in memory and not on the disk.
func TestFaultSyncFailsOnceThenLies(t *testing.T) {
	fault := vfs.Fault{Ops: vfs.OpSyncData | vfs.OpSync, Do: vfs.SyncFailsOnce()}
	eachFault(t, fault, expectSurvival)
}

// TestFaultNoSpaceAtEveryOperation wants a full disk to be retryable where nothing was written.
func TestFaultNoSpaceAtEveryOperation(t *testing.T) {
	const ops = vfs.OpWrite | vfs.OpPreallocate | vfs.OpCreate | vfs.OpMkdir
	for _, short := range []int{0, 100} {
		full, poisoned := 0, 0
		fault := vfs.Fault{Ops: ops, Do: vfs.Effect{Err: vfs.ErrNoSpace, Short: short}}
		eachFault(t, fault, func(t *testing.T, w *workload) {
			full += w.full
			switch {
			case errors.Is(w.err, wal.ErrPoisoned):
				poisoned++
			case w.err != nil && !errors.Is(w.err, vfs.ErrNoSpace):
				t.Fatalf("the workload ended with %v", w.err)
			}
			expectSurvival(t, w)
		})
		t.Logf("short write of %d: %d times full, %d times poisoned", short, full, poisoned)
		if full == 0 {
			t.Errorf("short write of %d: the log never said that the disk is full", short)
		}
		if short == 0 && poisoned > 0 {
			t.Errorf("a write that wrote nothing poisoned the log %d times", poisoned)
		}
	}
}

// TestFaultLostSync: a drive that lies about a sync cannot be survived, but the log must not make
// anything up: what opens is a state that was, or typed damage.
func TestFaultLostSync(t *testing.T) {
	damaged, whole := 0, 0
	fault := vfs.Fault{Ops: vfs.OpSyncData | vfs.OpSync, Do: vfs.Effect{LoseSync: true}}
	eachFault(t, fault, func(t *testing.T, w *workload) {
		for image := range w.fs.CrashImages(vfs.ImagePolicy{Classes: vfs.ClassNone | vfs.ClassAll}) {
			log, err := wal.Open(w.optionsOn(image.FS))
			if isDamage(err) {
				damaged++
				continue
			}
			if err != nil {
				t.Fatalf("image %v: %v", image, err)
			}
			if _, err := w.history.match(log, 0, len(w.history.models)-1); err != nil {
				t.Fatalf("image %v: %v", image, err)
			}
			whole++
		}
	})
	t.Logf("%d logs opened, %d refused with damage", whole, damaged)
}

func isDamage(err error) bool {
	_, ok := errors.AsType[*wal.DamageError](err)
	return ok
}

// TestFaultMisdirectedWrite sends one write elsewhere. After a clean close the log is whole, or the
// damage is typed; a frame at the wrong place is never accepted.
func TestFaultMisdirectedWrite(t *testing.T) {
	targets := []vfs.Misdirect{{Shift: 512}, {Shift: -512}, {Shift: 8}, {Shift: 4096},
		{Name: crashDir + "/nowhere"}}
	for _, to := range targets {
		damaged := 0
		fault := vfs.Fault{Ops: vfs.OpWrite, Glob: "*.wal*", Do: vfs.Effect{Misdirect: &to}}
		begin := func() *workload {
			w := unopenedWorkload(t, 3)
			w.peaceful = true
			return w
		}
		eachFaultIn(t, fault, begin, func(t *testing.T, w *workload) {
			if w.err == nil {
				w.close()
			}
			w.fs.Kill()
			err := w.expectWholeOrDamaged(w.fs)
			if err == nil {
				return
			}
			damaged++
			if !isDamage(err) {
				t.Fatalf("misdirected by %+v, the workload ended with %v: %v", to, w.err, err)
			}
		})
		t.Logf("misdirected by %+v: %d logs refused with damage", to, damaged)
		if damaged == 0 {
			t.Errorf("misdirected by %+v: nothing was noticed", to)
		}
	}
}

// expectWholeOrDamaged opens an image and wants all of the present model; what the log itself says
// is in the error.
func (w *workload) expectWholeOrDamaged(fs *vfs.Mem) error {
	log, err := wal.Open(w.optionsOn(fs))
	if err != nil {
		return err
	}
	return errors.Join(w.history.now().missing(log), log.Close())
}

// visible is a copy of what a process sees, without its locks, all of it durable.
func visible(fs *vfs.Mem) *vfs.Mem {
	for image := range fs.CrashImages(vfs.ImagePolicy{Classes: vfs.ClassAll}) {
		return image.FS
	}
	panic("a policy without images")
}

// closedWorkload is a log that was closed well, for faults on what lies on the disk.
func closedWorkload(t *testing.T) *workload {
	w := newWorkload(t, 5)
	w.oneLife = true
	w.run(faultSteps)
	w.close()
	return w
}

// TestFaultBitFlipOnRead flips a bit in one read of an open, and wants the whole log or typed
// damage, and the whole log from the next open, because the disk is good.
func TestFaultBitFlipOnRead(t *testing.T) {
	base := closedWorkload(t)
	for n, hits := 1, 1; hits > 0; n++ {
		hits = 0
		for bit := range 40 {
			fs := visible(base.fs)
			remove := fs.Inject(vfs.Fault{Ops: vfs.OpRead, Nth: n, Do: vfs.Effect{
				FlipBit: true, FlipBitAt: bit * 7919, Hook: func(vfs.Op) { hits++ },
			}})
			err := base.expectWholeOrDamaged(fs)
			remove()
			if err != nil && !isDamage(err) {
				t.Fatalf("bit %d of read %d: %v", bit*7919, n, err)
			}
			fs.Kill()
			if err := base.expectWholeOrDamaged(fs); err != nil {
				t.Fatalf("after bit %d of read %d: %v", bit*7919, n, err)
			}
		}
	}
}

// TestFaultBitFlipInRunningLog reads old entries through a disk that flips bits: never wrong bytes.
func TestFaultBitFlipInRunningLog(t *testing.T) {
	w := newWorkload(t, 5)
	w.options.CacheBytes = 1
	w.run(faultSteps)
	w.close()
	w.open()
	caught := 0
	for bit := range 2000 {
		remove := w.fs.Inject(vfs.Fault{Ops: vfs.OpRead, Do: vfs.Effect{
			FlipBit: true, FlipBitAt: bit * 7919,
		}})
		for id, want := range w.history.now() {
			if len(want.entries) == 0 {
				continue
			}
			first, last := want.mark.Index+1, want.last()
			entries, err := w.log.Group(id).Entries(first, last+1, 1<<30)
			if err != nil {
				caught++
				continue
			}
			for i, entry := range entries {
				if !sameEntry(entry, want.entries[i]) {
					t.Fatalf("bit %d: group %d entry %d has wrong bytes", bit, id, entry.GetIndex())
				}
			}
		}
		remove()
	}
	if caught < 500 {
		t.Errorf("only %d flips were caught", caught)
	}
}

// TestFaultStall hangs a sync: the log shows since when, and reads go on.
func TestFaultStall(t *testing.T) {
	w := newWorkload(t, 5)
	w.run(5)
	entered, release, done := make(chan struct{}), make(chan struct{}), make(chan error)
	w.fs.Inject(vfs.Fault{Ops: vfs.OpSyncData, Do: vfs.Effect{Hook: func(vfs.Op) {
		close(entered)
		<-release
	}}})
	before := w.history.now()
	u := w.update(1, before[1])
	u.Entries = w.entries(1, before[1].last()+1, u.State.Term, 1, 10)
	go func() { done <- w.log.Append([]wal.Update{u}, true) }()
	<-entered
	if w.log.SyncStarted().IsZero() {
		t.Error("SyncStarted is zero while a sync hangs")
	}
	if err := before.differs(w.log); err != nil {
		t.Errorf("while a sync hangs: %v", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !w.log.SyncStarted().IsZero() {
		t.Error("SyncStarted is not zero behind the sync")
	}
	if err := before.with(u).differs(w.log); err != nil {
		t.Error(err)
	}
}

// damage is one way to spoil a file on the disk.
type damage struct {
	name  string
	apply func(data []byte, at int) []byte
}

var damages = []damage{
	{"bit", func(data []byte, at int) []byte {
		data[at] ^= 1 << (at % 8)
		return data
	}},
	{"zero sector", func(data []byte, at int) []byte {
		from := at / 512 * 512
		clear(data[from:min(len(data), from+512)])
		return data
	}},
	{"foreign sector", func(data []byte, at int) []byte {
		from := at / 512 * 512
		if from+1024 <= len(data) {
			copy(data[from:from+512], data[from+512:from+1024])
		}
		return data
	}},
	{"cut", func(data []byte, at int) []byte { return data[:at] }},
}

// TestDamageIsNeverSilent spoils each file of a closed log at every 61st byte. The log must hold
// all it held, or Open must name the damage; with Repair the groups that are not fenced are whole,
// and a fenced one is whole up to its hole and mends.
func TestDamageIsNeverSilent(t *testing.T) {
	w := closedWorkload(t)
	names, err := w.fs.List(crashDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range damages {
		refused, fenced := 0, 0
		for _, name := range names {
			path := filepath.Join(crashDir, name)
			size := len(fileBytes(t, w.fs, path))
			for at := 0; at < size; at += 61 {
				fs := visible(w.fs)
				spoil(t, fs, path, at, d)
				err := w.expectWholeOrDamaged(visible(fs))
				if err == nil {
					continue
				}
				refused++
				if !isDamage(err) {
					t.Fatalf("%s at %d of %s: %v", d.name, at, name, err)
				}
				n, err := w.checkRepair(fs)
				if err != nil {
					t.Fatalf("%s at %d of %s, repair: %v", d.name, at, name, err)
				}
				fenced += n
			}
		}
		t.Logf("%s: %d logs refused, %d groups fenced and mended", d.name, refused, fenced)
		if refused == 0 || fenced == 0 {
			t.Errorf("%s: %d logs refused, %d groups fenced", d.name, refused, fenced)
		}
	}
}

// TestDamageOfKilledLogIsNeverSilent spoils logs that were not closed. There the newest write
// cannot be told from one that a crash has torn, so that alone may be missing without a word. Files
// that are cut short are left out: by the contract of the log that is a torn tail
// (TestRowTornTail), however much was behind the cut.
func TestDamageOfKilledLogIsNeverSilent(t *testing.T) {
	refused, cut := 0, 0
	for steps := 8; steps <= faultSteps; steps += 8 {
		w := newWorkload(t, uint64(steps))
		w.oneLife = true
		w.run(steps)
		from, to := w.boundsBeforeLastWrite()
		names, err := w.fs.List(crashDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			path := filepath.Join(crashDir, name)
			for at := 0; at < len(fileBytes(t, w.fs, path)); at += 97 {
				fs := visible(w.fs)
				d := damages[at%3]
				spoil(t, fs, path, at, d)
				log, err := wal.Open(w.optionsOn(fs))
				if isDamage(err) {
					refused++
					continue
				}
				if err != nil {
					t.Fatalf("%d steps, %d of %s: %v", steps, at, name, err)
				}
				if !w.history.held(log, from, to) {
					t.Fatalf("%d steps, %s at %d of %s: silent loss", steps, d.name, at, name)
				}
				if w.history.now().missing(log) != nil {
					cut++
				}
			}
		}
	}
	t.Logf("%d logs refused, %d without their newest write", refused, cut)
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

// boundsBeforeLastWrite are how many changes were acknowledged before the newest write to a segment
// began, and how many there are.
func (w *workload) boundsBeforeLastWrite() (from, to int) {
	position := w.recording.Len()
	for position > 0 {
		op := w.recording.Op(position - 1)
		position--
		if op.Kind == vfs.OpWrite && strings.Contains(op.Name, ".wal") && !allZeros(op.Data) {
			break
		}
	}
	from, _ = w.history.bounds(position)
	_, to = w.history.bounds(w.recording.Len())
	return from, to
}

func allZeros(data []byte) bool { return len(bytes.Trim(data, "\x00")) == 0 }

// TestMissingFileIsNeverSilent removes each file of a closed log.
func TestMissingFileIsNeverSilent(t *testing.T) {
	w := closedWorkload(t)
	names, err := w.fs.List(crashDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		fs := visible(w.fs)
		if err := fs.Remove(filepath.Join(crashDir, name)); err != nil {
			t.Fatal(err)
		}
		err := w.expectWholeOrDamaged(fs)
		t.Logf("without %s: %v", name, err)
		if err != nil && !isDamage(err) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// checkRepair opens a damaged log with Repair, holds each group against the model, mends the fenced
// ones from it, and wants everything back. It returns how many were fenced.
func (w *workload) checkRepair(fs *vfs.Mem) (fenced int, err error) {
	o := w.optionsOn(fs)
	o.Repair = true
	log, err := wal.Open(o)
	if err != nil {
		return 0, err
	}
	want := w.history.now()
	for _, id := range log.Groups() {
		if _, ok := want[id]; !ok && log.Group(id).Damage() != nil {
			// Its removal is in the hole; the cluster removes it again.
			if err := log.RemoveGroup(id); err != nil {
				return 0, fmt.Errorf("remove group %d: %w", id, err)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(want)) {
		g := log.Group(id)
		hole := g.Damage()
		if hole == nil {
			if err := want[id].missing(g); err != nil {
				return fenced, fmt.Errorf("group %d is not fenced: %w", id, err)
			}
			continue
		}
		fenced++
		if err := want[id].mend(log, id); err != nil {
			return fenced, fmt.Errorf("group %d: %w", id, err)
		}
	}
	if err := errors.Join(want.entriesDiffer(log), log.Close()); err != nil {
		return fenced, fmt.Errorf("after mending: %w", err)
	}
	if log, err = wal.Open(w.optionsOn(fs)); err != nil {
		return fenced, fmt.Errorf("open after mending: %w", err)
	}
	return fenced, errors.Join(want.entriesDiffer(log), log.Close())
}

func fileBytes(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.OpenFile(name, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, size)
	if _, err := f.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return data
}

// spoil damages a file durably.
func spoil(t *testing.T, fs *vfs.Mem, path string, at int, d damage) {
	t.Helper()
	before := fileBytes(t, fs, path)
	after := d.apply(bytes.Clone(before), at)
	f, err := fs.OpenFile(path, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(after, 0)
	if err := errors.Join(err, f.Truncate(int64(len(after))), f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}
