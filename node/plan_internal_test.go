package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func membersAt(ids ...uint64) (list []Member) {
	for _, id := range ids {
		list = append(list, Member{ID: id, Address: fmt.Sprint("host:", id)})
	}
	return list
}

// show writes a step in one line: "1=voter 2=nothing @7" is a change decided on version 7.
func (s step) show() string {
	var b strings.Builder
	switch {
	case s.complete:
		return "complete"
	case s.request == nil:
		fmt.Fprint(&b, "wait ", s.wait)
	case s.request.Ask == askTransfer:
		return "transfer"
	default:
		for _, part := range s.request.Steps {
			fmt.Fprintf(&b, "%d=%s ", part.ID, part.Becomes)
		}
		fmt.Fprintf(&b, "@%d", s.request.Version)
	}
	return b.String()
}

// TestPlan holds the next step of a change for each state that a cluster can be found in.
func TestPlan(t *testing.T) {
	three := Membership{Version: 7, Voters: membersAt(1, 2, 3)}
	with := func(learners ...uint64) Membership {
		m := three
		m.Learners = membersAt(learners...)
		return m
	}
	joint := Membership{Version: 8, Voters: membersAt(2, 3, 4), Joint: true, Leaving: membersAt(1)}
	replace := Change{Add: membersAt(4), Remove: []uint64{1}}
	all := Change{Add: membersAt(4, 5), Remove: []uint64{1, 2, 3}}
	five := Membership{Version: 9, Voters: membersAt(1, 2, 3, 4, 5)}
	moved := []Member{{ID: 2, Address: "elsewhere:1"}}
	for name, test := range map[string]struct {
		change Change
		now    Membership
		leader uint64
		near   []uint64
		want   string
	}{
		"a new member learns":    {replace, three, 2, nil, "4=learner @7"},
		"two learn at once":      {all, three, 2, nil, "4=learner 5=learner @7"},
		"it catches up":          {replace, with(4), 2, nil, "wait [4]"},
		"one of two catches up":  {all, with(4, 5), 2, []uint64{5}, "wait [4]"},
		"voters switch":          {replace, with(4), 2, []uint64{4}, "4=voter 1=nothing @7"},
		"the leader hands over":  {replace, with(4), 1, []uint64{4}, "transfer"},
		"new voters come first":  {all, with(4, 5), 1, []uint64{4, 5}, "4=voter 5=voter @7"},
		"then a new one leads":   {all, five, 1, nil, "transfer"},
		"then the old ones go":   {all, five, 4, nil, "1=nothing 2=nothing 3=nothing @9"},
		"the joint one ends":     {replace, joint, 2, nil, "wait []"},
		"done":                   {replace, Membership{Voters: membersAt(2, 3, 4)}, 2, nil, "complete"},
		"a learner stays one":    {Change{Learn: membersAt(4)}, with(4), 2, []uint64{4}, "complete"},
		"a learner catches up":   {Change{Learn: membersAt(4)}, with(4), 2, nil, "wait [4]"},
		"a learner is promoted":  {Change{Promote: []uint64{4}}, with(4), 2, []uint64{4}, "4=voter @7"},
		"a learner is removed":   {Change{Remove: []uint64{4}}, with(4), 2, nil, "4=nothing @7"},
		"nobody is removed":      {Change{Remove: []uint64{9}}, three, 2, nil, "complete"},
		"an address changes":     {Change{Readdress: moved}, three, 2, nil, "2=known @7"},
		"it has changed already": {Change{Readdress: membersAt(2)}, three, 2, nil, "complete"},
	} {
		s, err := test.change.plan(&test.now, test.leader, nil, func(id uint64) bool {
			for _, near := range test.near {
				if near == id {
					return true
				}
			}
			return false
		})
		if got := s.show(); err != nil || got != test.want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, test.want)
		}
	}
	_, err := replace.plan(&three, 2, map[uint64]bool{4: true}, nil)
	if !errors.Is(err, ErrConflict) {
		t.Errorf("a new member that another change has removed: %v, want ErrConflict", err)
	}
}
