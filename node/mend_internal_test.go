package node

import (
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
)

// A joint configuration that a peer knows may have been left since, so those that vote behind it
// count: node 1 may have acknowledged what only 4 and 5 have beside it.
func TestEnoughOfAJointConfiguration(t *testing.T) {
	three := &pb.ConfState{Voters: []uint64{1, 2, 3}}
	joint := &pb.ConfState{Voters: []uint64{1, 2, 3, 4, 5}, VotersOutgoing: []uint64{1, 2, 3}}
	five := &pb.ConfState{Voters: []uint64{1, 2, 3, 4, 5}}
	for _, test := range []struct {
		name    string
		members []*pb.ConfState
		answers []uint64
		want    bool
	}{
		{"one of three", []*pb.ConfState{three}, []uint64{2}, false},
		{"two of three", []*pb.ConfState{three}, []uint64{2, 3}, true},
		{"the old half of a joint one", []*pb.ConfState{three, joint}, []uint64{2, 3}, false},
		{"the new half of a joint one", []*pb.ConfState{joint}, []uint64{2, 4, 5}, true},
		{"both halves", []*pb.ConfState{three, joint}, []uint64{2, 3, 4}, true},
		{"behind the joint one", []*pb.ConfState{three, five}, []uint64{2, 3}, false},
		{"itself does not count", []*pb.ConfState{three}, []uint64{1, 2}, false},
		{"nobody known", []*pb.ConfState{{}}, []uint64{2, 3}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			has := map[uint64]bool{}
			for _, id := range test.answers {
				has[id] = true
			}
			got := meetsQuorums(test.members, 1, func(id uint64) bool { return has[id] })
			if got != test.want {
				t.Errorf("enough: %v, want %v", got, test.want)
			}
		})
	}
}
