package wal_test

import (
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// The very first frame of a log is the only one of its group. The superblock knows the group, and
// later frames of another one prove that the frame was durable.
func TestFirstFrameOfLogIsDamaged(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	o.Repair = true
	l := open(t, o)
	for group := uint64(1); group <= 2; group++ {
		mustAppend(t, l, wal.Update{Group: group, State: &wal.State{Term: 1, Commit: 1},
			Mark: &wal.Mark{Index: 1, Term: 1}})
	}
	appendEach(t, l, 2, 2, 4, 1, 100)
	fs.Kill()
	spoil(t, fs, "/log/"+segmentNames(t, o)[0], 512+10, damages[0])
	l = open(t, o)
	if l.Group(1).Damage() == nil {
		t.Errorf("group 1 is whole with state %+v behind index %d", l.Group(1).State(),
			l.Group(1).LastIndex())
	}
	if damage := l.Group(2).Damage(); damage != nil {
		t.Errorf("group 2 has lost nothing: %v", damage)
	}
}
