package wal_test

import (
	"errors"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// largeWorkload has entries that are written from where they lie, between others that are copied.
func largeWorkload(t testing.TB, seed uint64) *workload {
	w := unopenedWorkload(t, seed)
	w.options.SegmentBytes = 64 << 10
	w.large = true
	return w
}

// TestCrashEnumerationLargeEntries is TestCrashEnumeration for writes that are made of parts.
func TestCrashEnumerationLargeEntries(t *testing.T) {
	seen := newImageSet()
	for seed := range uint64(2) {
		w := largeWorkload(t, 200+seed)
		w.open()
		w.run(40)
		w.close()
		if n := w.segmentsMade(); n < 5 {
			t.Fatalf("%d segments were made: too few", n)
		}
		if n := w.countOps(isLargeWrite); n < 10 {
			t.Fatalf("%d writes with large entries: too few", n)
		}
		enumerate(t, w, seen, *imagesMax / *crashSeeds / 3)
	}
	t.Logf("%d distinct images checked, %d of them of crashes during recovery",
		seen.len(), seen.recoveries())
}

func isLargeWrite(op *vfs.Op) bool {
	return op.Kind == vfs.OpWrite && len(op.Data) > 16<<10 && !allZeros(op.Data)
}

// TestFaultLargeEntries fails each write with nothing of it on the disk, with a part that ends in
// large data, and with all of it.
func TestFaultLargeEntries(t *testing.T) {
	for _, do := range []vfs.Effect{
		{Err: vfs.ErrNoSpace}, {Err: vfs.ErrNoSpace, Short: 5000}, {Err: vfs.ErrIO, Short: 1 << 20},
	} {
		begin := func() *workload { return largeWorkload(t, 3) }
		full, poisoned := 0, 0
		eachFaultIn(t, vfs.Fault{Ops: vfs.OpWrite, Do: do}, begin, func(t *testing.T, w *workload) {
			full += w.full
			if errors.Is(w.err, wal.ErrPoisoned) {
				poisoned++
				expectPoisoned(t, w)
			}
			want := w.boundsAt(w.recording.Len())
			w.fs.Kill()
			if _, err := w.checkImage(w.fs, want); err != nil {
				t.Fatalf("kill after %v: %v", w.err, err)
			}
		})
		retryable := errors.Is(do.Err, vfs.ErrNoSpace) && do.Short == 0
		if retryable == (poisoned > 0) || retryable && full == 0 {
			t.Errorf("%v after %d bytes: %d times full, %d times poisoned", do.Err, do.Short, full,
				poisoned)
		}
	}
}
