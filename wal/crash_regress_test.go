package wal_test

import (
	"bytes"
	"errors"
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

// TestOnlyFrameOfGroupIsDamaged spoils the header of the one frame that a group has, so that
// nothing in the log names the group any more. Frames of another group prove that it was
// acknowledged; the newest of them is the only proof, and it must count itself.
func TestOnlyFrameOfGroupIsDamaged(t *testing.T) {
	w := newWorkload(t, 1)
	for index := uint64(1); index <= 3; index++ {
		w.append(true, wal.Update{Group: 1, Entries: w.entries(1, index, 1, 1, 50)})
		if index == 2 {
			vote := wal.State{Term: 7, Vote: 3}
			w.append(true, wal.Update{Group: 2, State: &vote, Entries: w.entries(2, 1, 7, 1, 50)})
		}
	}
	file := crashDir + "/0000000000000001.wal"
	at := bytes.Index(fileBytes(t, w.fs, file), []byte("group 2 entry 1")) - 112 - 16
	if at < 512 {
		t.Fatal("the frame is not there")
	}
	for _, d := range damages[:2] {
		fs := visible(w.fs)
		spoil(t, fs, file, at+4, d)
		_, err := wal.Open(w.optionsOn(fs))
		damage, ok := errors.AsType[*wal.DamageError](err)
		if !ok || damage.Group != 2 || damage.FirstIndex != 1 || damage.LastIndex != 1 {
			t.Errorf("%s in the header: open gives %v, want the loss of group 2", d.name, err)
		}
		log, err := wal.Open(w.repairOptions(fs))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.history.now()[1].differs(log.Group(1)); err != nil {
			t.Errorf("%s in the header of the other group's frame: %v", d.name, err)
		}
		if log.Group(2).Damage() == nil {
			t.Errorf("%s in the header: group 2 is not fenced", d.name)
		}
	}
}

// TestRestartsDoNotPileUpFiles kills and closes an idle log again and again. A node in a crash loop
// must not fill its disk with segments that hold nothing but their head.
func TestRestartsDoNotPileUpFiles(t *testing.T) {
	w := newWorkload(t, 1)
	w.run(20)
	used := int64(0)
	for i := range 60 {
		if i%3 < 2 {
			w.kill()
		} else {
			w.close()
			w.open()
		}
		if i == 10 {
			used = w.fs.Used()
		}
	}
	if now := w.fs.Used(); now > used+crashSegment {
		t.Errorf("%d bytes after 60 restarts, %d after 11", now, used)
	}
}

// TestWritesCoverWholeSectors is why a disk that spoils the whole sector in which a power cut stops
// a write cannot take acknowledged bytes along: no two writes to a segment share a sector.
func TestWritesCoverWholeSectors(t *testing.T) {
	const sector = 512
	w := newWorkload(t, 2)
	w.runLong()
	w.close()
	files := map[string]bool{}
	for position := range w.recording.Len() {
		op := w.recording.Op(position)
		if op.Kind != vfs.OpWrite || !strings.Contains(op.Name, ".wal") {
			continue
		}
		if op.Offset%sector != 0 || len(op.Data)%sector != 0 {
			t.Errorf("%v does not cover whole sectors", op)
		}
		files[op.Name] = true
	}
	if len(files) < 5 {
		t.Errorf("only %d segments were written", len(files))
	}
	for replay := w.recording.Replay(); replay.Next(); {
		for image := range replay.CrashImages(vfs.ImagePolicy{Classes: vfs.ClassSharedSector}) {
			t.Fatalf("a power cut may spoil durable bytes: %v", image)
		}
	}
}

// TestRemovedGroupStaysRemovedBehindDamage spoils the head of a segment, whose checkpoints alone
// say that a group is gone: the frame of its removal stood where the log was moved from. The other
// groups have later frames, so nothing is lost, and the removed one must not come back as if it
// were whole.
func TestRemovedGroupStaysRemovedBehindDamage(t *testing.T) {
	w := newWorkload(t, 1)
	grow := func() {
		for group := uint64(1); group <= 3; group++ {
			w.append(true, nextUpdate(group, w.history.now()[group]))
		}
	}
	w.append(true, nextUpdate(mortalGroup, groupModel{}))
	grow()
	w.remove(mortalGroup)
	w.kill()
	grow()
	grow()
	name := newestUsed(t, w)
	for at := 512; at < 512+4*112; at += 8 {
		fs := visible(w.fs)
		spoil(t, fs, name, at, damages[0])
		log, err := wal.Open(w.repairOptions(fs))
		if err != nil {
			t.Fatalf("bit at %d: %v", at, err)
		}
		if g := log.Group(mortalGroup); g.LastIndex() > 0 && g.Damage() == nil {
			t.Fatalf("bit at %d: the removed group is back, not fenced", at)
		}
	}
}

// newestUsed is the path of the newest segment that has a header.
func newestUsed(t *testing.T, w *workload) string {
	t.Helper()
	names, err := w.fs.List(crashDir)
	if err != nil {
		t.Fatal(err)
	}
	newest := ""
	for _, name := range names {
		path := crashDir + "/" + name
		if bytes.HasPrefix(fileBytes(t, w.fs, path), []byte("connwal\n")) {
			newest = path
		}
	}
	return newest
}
