package wal_test

import (
	"strings"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// TestActivationTornBetweenFrames tears the head of a new segment exactly behind each of its
// checkpoints. What is left looks whole frame by frame, but groups are missing; it must not count.
func TestActivationTornBetweenFrames(t *testing.T) {
	w := newWorkload(t, 1)
	for group := uint64(1); group <= 3; group++ { // one sector of checkpoints, with that of 5
		w.append(true, wal.Update{Group: group, State: &wal.State{Term: 1, Vote: group}})
	}
	for w.log.Stats().Rotations == 0 {
		next := w.history.now()[5].last() + 1
		w.append(true, wal.Update{Group: 5, Entries: w.entries(5, next, 1, 1, 900)})
	}
	w.recording.Stop()
	borders := func(*vfs.Op) []int {
		var cuts []int
		for cut := 512; cut < 2048; cut += 8 {
			cuts = append(cuts, cut)
		}
		return cuts
	}
	policy := vfs.ImagePolicy{Classes: vfs.ClassTorn, Edges: borders, CutsMax: 1000}
	checked := 0
	for replay := w.recording.Replay(); replay.Next(); {
		op := w.recording.Op(replay.Position() - 1)
		if op.Kind != vfs.OpWrite || op.Offset != 0 || !strings.Contains(op.Name, ".wal") {
			continue
		}
		for image := range replay.CrashImages(policy) {
			checked++
			if _, err := w.checkImage(image.FS, w.boundsAt(replay.Position())); err != nil {
				t.Fatalf("%v: %v", image, err)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d images", checked)
	}
}
