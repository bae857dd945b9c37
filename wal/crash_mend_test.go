package wal_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// mendWorkload is a repair that was recorded: a damaged log is opened with Repair, and each fenced
// group is mended from the model. mended has, for each group that was fenced, the position behind
// which it must never be fenced again.
type mendWorkload struct {
	*workload
	recording *vfs.Recording
	opened    int
	mended    map[uint64]int
}

// TestCrashDuringMend crashes the repair of damaged logs at every operation. A fence must hold
// until its group is whole: a group is fenced and right up to its hole, or it is whole.
func TestCrashDuringMend(t *testing.T) {
	base := closedWorkload(t)
	names, err := base.fs.List(crashDir)
	if err != nil {
		t.Fatal(err)
	}
	images, repairs := 0, 0
	for i, name := range names {
		path := filepath.Join(crashDir, name)
		size := len(fileBytes(t, base.fs, path))
		if !strings.HasSuffix(name, ".wal") || i%3 != 0 {
			continue
		}
		for at := 700; at < size; at += 900 {
			fs := visible(base.fs)
			spoil(t, fs, path, at, damages[1])
			m := base.recordMend(t, fs)
			if len(m.mended) == 0 {
				continue
			}
			repairs++
			images += m.enumerate(t)
			if t.Failed() {
				t.Fatalf("sector at %d of %s", at, name)
			}
		}
	}
	t.Logf("%d images of %d repairs", images, repairs)
	if repairs < 5 {
		t.Errorf("only %d repairs", repairs)
	}
}

func (w *workload) repairOptions(fs *vfs.Mem) wal.Options {
	o := w.optionsOn(fs)
	o.Repair = true
	return o
}

// recordMend opens a damaged log, mends all of it, and closes it.
func (w *workload) recordMend(t *testing.T, fs *vfs.Mem) *mendWorkload {
	t.Helper()
	m := &mendWorkload{workload: w, recording: fs.Record(), mended: map[uint64]int{}}
	log, err := wal.Open(w.repairOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	m.opened = m.recording.Len()
	want := w.history.now()
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if log.Group(id).Damage() != nil {
			if err := want[id].mend(log, id); err != nil {
				t.Fatal(err)
			}
			m.mended[id] = m.recording.Len()
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	m.recording.Stop()
	return m
}

func (m *mendWorkload) enumerate(t *testing.T) (images int) {
	t.Helper()
	done := map[uint64]bool{}
	for replay := m.recording.Replay(); ; {
		for image := range replay.CrashImages(recoveryPolicy) {
			if sum := image.FS.Fingerprint(); !done[sum] {
				done[sum] = true
				images++
				if err := m.check(image.FS, replay.Position()); err != nil {
					t.Errorf("crash behind operation %d, image %v: %v", replay.Position(), image, err)
					return images
				}
			}
		}
		if !replay.Next() {
			return images
		}
	}
}

// check opens an image twice: what the first open showed must be there again.
func (m *mendWorkload) check(fs *vfs.Mem, position int) error {
	var fenced []uint64
	for range 2 {
		log, err := wal.Open(m.repairOptions(fs))
		if err != nil {
			return err
		}
		again, err := m.fencedGroups(log, position)
		if err != nil {
			return err
		}
		if fenced != nil && !slices.Equal(fenced, again) {
			return fmt.Errorf("fenced groups %v, then %v", fenced, again)
		}
		fenced = append([]uint64{}, again...)
		fs.Kill()
	}
	return nil
}

// fencedGroups holds every group against the model and returns those that are fenced.
func (m *mendWorkload) fencedGroups(log *wal.Log, position int) ([]uint64, error) {
	var fenced []uint64
	for id, want := range m.history.now() {
		g := log.Group(id)
		hole := g.Damage()
		until, damaged := m.mended[id]
		switch {
		case hole == nil && damaged && position < until && want.entriesDiffer(g) != nil:
			return nil, fmt.Errorf("group %d has lost its fence: %w", id, want.entriesDiffer(g))
		case hole == nil:
			if err := want.entriesDiffer(g); err != nil || g.LastIndex() != want.last() {
				return nil, fmt.Errorf("group %d, last %d: %w", id, g.LastIndex(), err)
			}
			continue
		case !damaged:
			return nil, fmt.Errorf("group %d is fenced and was not damaged: %w", id, hole)
		case position >= until:
			return nil, fmt.Errorf("group %d is fenced again behind its repair: %w", id, hole)
		}
		if err := want.before(hole.FirstIndex).entriesDiffer(g); err != nil {
			return nil, fmt.Errorf("group %d in front of its hole: %w", id, err)
		}
		fenced = append(fenced, id)
	}
	slices.Sort(fenced)
	return fenced, nil
}
