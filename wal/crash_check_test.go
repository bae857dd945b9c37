package wal_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// check holds one image against the history, and if the job is deep also the crashes of its
// recovery.
func (w *workload) check(j job, seen *imageSet) error {
	want := w.boundsAt(j.position)
	seen.add(j.image.FS.Fingerprint(), false)
	if !j.deep {
		_, err := w.checkImage(j.image.FS, want)
		return err
	}
	recording := j.image.FS.Record()
	opened, err := w.checkImage(j.image.FS, want)
	if err != nil {
		return err
	}
	return w.checkRecovery(recording, opened, want, seen)
}

// bounds are what an image may hold.
type bounds struct {
	// from and to are the numbers of changes that were acknowledged and attempted.
	from, to int
	// created says that the identity of the log was shown.
	created bool
}

func (w *workload) boundsAt(position int) bounds {
	from, to := w.history.bounds(position)
	return bounds{from: from, to: to, created: w.created > 0 && position >= w.created}
}

// checkImage opens an image and holds what it shows against the bounds; then it wants the same
// again after a power cut at once and after a kill; then it appends, closes and opens once more. It
// returns how many operations the first open took.
func (w *workload) checkImage(fs *vfs.Mem, b bounds) (opened int, err error) {
	before := fs.Operations()
	log, err := wal.Open(w.optionsOn(fs))
	if err != nil {
		return 0, fmt.Errorf("open: %w", err)
	}
	opened = int(fs.Operations() - before)
	if b.created && log.Identity() != w.identity {
		return opened, fmt.Errorf("identity %+v, want %+v", log.Identity(), w.identity)
	}
	n, err := w.history.match(log, b.from, b.to)
	if err != nil {
		return opened, err
	}
	want := w.history.models[n]
	for cut := range fs.CrashImages(vfs.ImagePolicy{Classes: vfs.ClassNone}) {
		if err := w.expectOn(cut.FS, want); err != nil {
			return opened, fmt.Errorf("power cut right after open: %w", err)
		}
	}
	fs.Kill()
	if log, err = wal.Open(w.optionsOn(fs)); err != nil {
		return opened, fmt.Errorf("second open: %w", err)
	}
	if err := want.differs(log); err != nil {
		return opened, fmt.Errorf("second open: %w", err)
	}
	return opened, w.checkUsable(fs, log, want)
}

// checkUsable appends to every group and to a new one, and finds it all after a close.
func (w *workload) checkUsable(fs *vfs.Mem, log *wal.Log, have model) error {
	var updates []wal.Update
	for _, id := range append(slices.Sorted(maps.Keys(have)), 1000) {
		u := nextUpdate(id, have[id])
		have = have.with(u)
		updates = append(updates, u)
	}
	if err := log.Append(updates, true); err != nil {
		return fmt.Errorf("append after recovery: %w", err)
	}
	if err := have.differs(log); err != nil {
		return fmt.Errorf("append after recovery: %w", err)
	}
	accounted := log.Stats().DiskBytes
	if err := log.Close(); err != nil {
		return fmt.Errorf("close after recovery: %w", err)
	}
	if n := fs.OpenHandles(); n != 0 {
		return fmt.Errorf("%d handles are open after close", n)
	}
	if err := w.expectOn(fs, have); err != nil {
		return fmt.Errorf("third open: %w", err)
	}
	return w.checkFiles(fs, accounted)
}

// nextUpdate is one more entry for a group.
func nextUpdate(id uint64, g groupModel) wal.Update {
	state := g.state
	state.Term = max(state.Term, 1)
	entry := &raftpb.Entry{
		Index: new(g.last() + 1), Term: new(state.Term), Data: []byte("after recovery"),
	}
	return wal.Update{Group: id, State: &state, Entries: []*raftpb.Entry{entry}}
}

// expectOn opens a log, wants to see exactly the model, and closes it.
func (w *workload) expectOn(fs *vfs.Mem, want model) error {
	log, err := wal.Open(w.optionsOn(fs))
	if err != nil {
		return err
	}
	if err := want.differs(log); err != nil {
		return err
	}
	return log.Close()
}

func (w *workload) optionsOn(fs *vfs.Mem) wal.Options {
	o := w.options
	// Another incarnation than the one of the workload, if one is drawn.
	o.FS, o.Inline, o.Rand = fs, true, rand.NewChaCha8([32]byte{2})
	return o
}

// checkFiles wants no file that recovery should have cleaned up, nor more bytes than the log
// accounted for before the last open, besides the ballast, the superblocks, a segment that this
// open prepares, and as much again by which its head makes the one before grow.
func (w *workload) checkFiles(fs *vfs.Mem, accounted int64) error {
	const superblocks = 4 << 10
	if used := fs.Used(); used > accounted+3*w.options.SegmentBytes+superblocks {
		return fmt.Errorf("%d bytes on disk, the log accounts for %d", used, accounted)
	}
	names, err := fs.List(crashDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".tmp") {
			return fmt.Errorf("%s is left over", name)
		}
	}
	return nil
}

// checkRecovery crashes the recovery that was recorded, at every operation before Open returned:
// anything within the bounds may come of that.
func (w *workload) checkRecovery(
	recording *vfs.Recording, opened int, want bounds, seen *imageSet,
) error {
	recording.Stop()
	done := map[uint64]bool{}
	for replay := recording.Replay(); replay.Position() < opened; {
		for image := range replay.CrashImages(recoveryPolicy) {
			sum := image.FS.Fingerprint()
			if done[sum] {
				continue
			}
			done[sum] = true
			seen.add(sum, true)
			if _, err := w.checkImage(image.FS, want); err != nil {
				return fmt.Errorf("crash of recovery behind operation %d, image %v: %w",
					replay.Position(), image, err)
			}
		}
		replay.Next()
	}
	return nil
}
