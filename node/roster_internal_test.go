package node

import (
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/apply"
)

// Where a member is, the directory of the lowest group says, also when another group's, which has
// not heard of the change, is updated or read later.
func TestAddressOfTheLowestGroupCounts(t *testing.T) {
	n := openAlone(t)
	directory := func(address string) *apply.Directory {
		return &apply.Directory{Version: 2, State: &pb.ConfState{Voters: []uint64{1, 2}},
			Members: []apply.Member{{ID: 2, Address: address}}}
	}
	want := func(address string) {
		t.Helper()
		if got := n.Peers(); len(got) != 1 || got[0].ID != 2 || got[0].Address != address {
			t.Errorf("the peers are %+v, want node 2 at %s", got, address)
		}
	}
	n.roster.update(7, directory("127.0.0.1:1"))
	want("127.0.0.1:1") // nobody else knows
	n.roster.update(3, directory("127.0.0.1:2"))
	want("127.0.0.1:2")
	n.roster.update(7, directory("127.0.0.1:1"))
	want("127.0.0.1:2")
}
