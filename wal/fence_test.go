package wal_test

import (
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// A fence that the caller raises is like one of damage: it stands over restarts, through a rotation,
// refuses a log that must be whole, and is lifted by Unfence alone.
func TestFenceStandsUntilItIsLifted(t *testing.T) {
	for name, group := range map[string]uint64{"of a group with a log": 4, "of an unknown group": 9} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(vfs.NewMem())
			o.Repair = true
			l := open(t, o)
			appendEach(t, l, 4, 1, 10, 2, 100)
			if err := l.Fence(group); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if l.Group(group).Damage() == nil {
					t.Fatal("the group is not fenced")
				}
				l = reopen(t, l, o)
			}
			appendEach(t, l, 5, 1, 200, 2, 1000) // through several segments
			mustAppend(t, l, wal.Update{Group: group, State: &wal.State{Term: 7}})
			l = reopen(t, l, o)
			if l.Group(group).Damage() == nil {
				t.Fatal("the fence is gone")
			}
			closeLog(t, l)
			strict := o
			strict.Repair = false
			if l, err := wal.Open(strict); err == nil {
				closeLog(t, l)
				t.Fatal("a log with a fenced group opens although it must be whole")
			}
			l = open(t, o)
			if err := l.Unfence(group); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if d := l.Group(group).Damage(); d != nil {
					t.Fatalf("still fenced: %v", d)
				}
				l = reopen(t, l, o)
			}
			closeLog(t, l)
		})
	}
}
