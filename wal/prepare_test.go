package wal_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// One segment is made in advance while the log is in use, and more when it is not.
func TestSegmentsAreMadeWhileNobodyAppends(t *testing.T) {
	inTime(t, false, func(t *testing.T, _ *vfs.Mem, o wal.Options, l *wal.Log) {
		segment := o.SegmentBytes
		for i := uint64(1); i <= 100; i++ {
			time.Sleep(50 * time.Millisecond) // virtual time
			synctest.Wait()
			before := l.Stats()
			if want := segment * int64(before.Segments+1); before.DiskBytes != want {
				t.Fatalf("in use the log holds %d bytes, want %d", before.DiskBytes, want)
			}
			appendEach(t, l, 1, i, i, 1, 400)
		}
		time.Sleep(time.Second) // virtual time
		synctest.Wait()
		rest := l.Stats()
		if want := segment * int64(rest.Segments+3); rest.DiskBytes != want {
			t.Errorf("at rest the log holds %d bytes, want %d", rest.DiskBytes, want)
		}
		closeLog(t, l)
	})
}

// That there is no room for one more than the next segment concerns nobody.
func TestNoRoomForOneMoreSegment(t *testing.T) {
	inTime(t, false, func(t *testing.T, fs *vfs.Mem, o wal.Options, l *wal.Log) {
		segment := o.SegmentBytes
		fs.SetLimit(fs.Used() + segment/2)
		time.Sleep(time.Second) // virtual time
		synctest.Wait()
		if st := l.Stats(); st.Full || st.DiskBytes != 2*segment {
			t.Fatalf("full: %v, with %d bytes", st.Full, st.DiskBytes)
		}
		fs.SetLimit(fs.Used() + 100*segment)
		stalled := make(chan struct{})
		fs.Inject(vfs.Fault{Ops: vfs.OpPreallocate, Do: vfs.Effect{Hook: func(vfs.Op) { <-stalled }}})
		for i := uint64(1); l.Stats().Rotations == 0; i++ {
			appendEach(t, l, 1, i, i, 1, 400)
		}
		if l.Full() {
			t.Error("the log calls itself full for an attempt that is long past")
		}
		close(stalled)
		closeLog(t, l)
	})
}
