package wal_test

import (
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// killed runs work on the file system and ends the process in front of its operation number n, counted
// from 1. It reports false when work needs fewer operations.
func killed(fs *vfs.Mem, n int, work func()) (died bool) {
	remove := fs.Inject(vfs.Fault{Nth: n, Do: vfs.Effect{Hook: func(vfs.Op) { panic(fs) }},
		Ops: vfs.OpWrite | vfs.OpTruncate | vfs.OpPreallocate | vfs.OpCreate | vfs.OpRemove |
			vfs.OpRename | vfs.OpAnySync})
	defer remove()
	defer func() {
		if v := recover(); v != nil {
			if v != any(fs) {
				panic(v)
			}
			died = true
		}
	}()
	work()
	return false
}

// A process that is killed leaves names that the next process sees and a power cut still takes away:
// the next one may not build on them before it has made them durable. The power cut comes while the
// second process opens, because at the end it has synced the directory for a reason of its own.
func TestNamesOfKilledProcessBecomeDurable(t *testing.T) {
	for n, more := 1, true; more; n++ {
		for m := 1; ; m++ {
			fs := vfs.NewMem()
			o := testOptions(fs)
			appendEach(t, open(t, o), 1, 1, 3, 1, 100)
			fs.Kill()
			open(t, o) // moves everything into a new segment, and sets the old one free
			fs.Kill()
			more = killed(fs, n, func() { _, _ = wal.Open(o) })
			fs.Kill()
			died := killed(fs, m, func() { _, _ = wal.Open(o) })
			for seed := range uint64(12) {
				o.FS = fs.Crash(seed)
				l, err := wal.Open(o)
				if err != nil {
					t.Fatalf("killed at operation %d, then at %d, then power cut %d: %v", n, m, seed,
						err)
				}
				expectEntries(t, l.Group(1), entries(1, 1, 3, 1, 100))
				closeLog(t, l)
			}
			if !died {
				break
			}
		}
	}
}
