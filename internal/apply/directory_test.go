package apply_test

import (
	"fmt"
	"reflect"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/apply"
)

func ids(d *apply.Directory) string {
	var list []uint64
	for _, m := range d.Members {
		list = append(list, m.ID)
	}
	return fmt.Sprint(list)
}

func TestDirectoryFollowsTheConfiguration(t *testing.T) {
	s, l := begun(&tape{})
	first := s.Directory()
	if first.Version != 1 || ids(first) != "[1 2 3]" || first.State != beginning.Members {
		t.Fatalf("at the beginning: %+v", first)
	}
	steps := []struct {
		what    string
		changed []apply.Member
		state   *pb.ConfState
		want    string
	}{
		{"a learner", []apply.Member{{ID: 4, Address: "d:1", Admin: "d:2"}},
			&pb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}}, "[1 2 3 4]"},
		{"joint", nil, &pb.ConfState{Voters: []uint64{2, 3, 4}, VotersOutgoing: []uint64{1, 2, 3}},
			"[1 2 3 4]"},
		{"left the joint one", nil, &pb.ConfState{Voters: []uint64{2, 3, 4}}, "[2 3 4]"},
		{"an address", []apply.Member{{ID: 2, Address: "new:1", Incarnation: 5}},
			&pb.ConfState{Voters: []uint64{2, 3, 4}}, "[2 3 4]"},
		{"refused", []apply.Member{{ID: 2, Address: "other:1"}}, nil, "[2 3 4]"},
		{"of a stranger", []apply.Member{{ID: 9, Address: "x:1"}},
			&pb.ConfState{Voters: []uint64{2, 3, 4}}, "[2 3 4]"},
		{"outgoing that stays a learner", nil, &pb.ConfState{Voters: []uint64{3, 4},
			VotersOutgoing: []uint64{2, 3, 4}, LearnersNext: []uint64{2}}, "[2 3 4]"},
		{"only two", nil, &pb.ConfState{Voters: []uint64{3, 4}}, "[3 4]"},
	}
	for _, step := range steps {
		if err := s.Entry(l.change(step.changed...), step.state, nil); err != nil {
			t.Fatal(err)
		}
		d := s.Directory()
		if ids(d) != step.want || d.Version != l.index ||
			step.state != nil && d.State != step.state {
			t.Errorf("%s: %+v, want members %s at version %d", step.what, d, step.want, l.index)
		}
		if m, ok := d.Member(2); (step.what == "an address" || step.what == "refused") &&
			(!ok || m.Address != "new:1" || m.Incarnation != 5) {
			t.Errorf("%s: member 2 is %+v", step.what, m)
		}
		if again := restored(t, s, &tape{}).Directory(); !reflect.DeepEqual(again, d) {
			t.Errorf("%s: %+v is restored as %+v", step.what, d, again)
		}
	}
	if _, ok := s.Directory().Member(2); ok {
		t.Error("a member that has left is found")
	}
	if ids(first) != "[1 2 3]" {
		t.Errorf("a published directory has become %+v", first)
	}
}

// A change that raft itself proposes, to leave a joint configuration, has no members.
func TestChangeWithoutContext(t *testing.T) {
	s, l := begun(&tape{})
	must(t, s.Entry(l.next(pb.EntryConfChange, nil), nil, nil))
	must(t, s.Entry(l.next(pb.EntryConfChangeV2, nil), nil, nil))
	if d := s.Directory(); d.Version != 3 || ids(d) != "[1 2 3]" {
		t.Errorf("directory: %+v", d)
	}
}

func FuzzParseMembers(f *testing.F) {
	f.Add([]byte{1, 0})
	f.Add(apply.AppendMembers(nil, []apply.Member{{ID: 1, Address: "a:1", Client: "b", Admin: "c",
		Incarnation: 1 << 60}, {ID: 2}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		members, err := apply.ParseMembers(data)
		if err != nil {
			return
		}
		again, err := apply.ParseMembers(apply.AppendMembers(nil, members))
		if err != nil || !reflect.DeepEqual(again, members) {
			t.Errorf("%+v becomes %+v, %v", members, again, err)
		}
	})
}
