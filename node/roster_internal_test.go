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

// What a peer told of another group's directory is of another log: its version says nothing of the
// lowest group's, which counts from when it has begun, or when a lower one is no more.
func TestWordOfAnotherGroupEndsWithIt(t *testing.T) {
	for _, name := range []string{"a lower group has begun", "the lower group is no more"} {
		t.Run(name, func(t *testing.T) {
			n := openAlone(t)
			directory := func(version uint64, address string) *apply.Directory {
				return &apply.Directory{Version: version, State: &pb.ConfState{Voters: []uint64{1, 2}},
					Members: []apply.Member{{ID: 2, Address: address}}}
			}
			told, lowest := uint64(7), uint64(3)
			if name == "the lower group is no more" {
				told, lowest = 3, 7
			}
			n.roster.update(told, directory(2, "127.0.0.1:1"))
			n.roster.hear(2, told, 1000, []Member{{ID: 2, Address: "127.0.0.1:2"}})
			n.roster.update(lowest, directory(5, "127.0.0.1:3"))
			if told < lowest {
				n.roster.forget(told)
			}
			n.roster.update(lowest, directory(6, "127.0.0.1:4"))
			if got := n.Peers(); len(got) != 1 || got[0].Address != "127.0.0.1:4" {
				t.Errorf("the peers are %+v, want node 2 at 127.0.0.1:4", got)
			}
			n.roster.hear(2, lowest, 9, []Member{{ID: 2, Address: "127.0.0.1:5"}})
			if got := n.Peers(); len(got) != 1 || got[0].Address != "127.0.0.1:5" {
				t.Errorf("the peers are %+v, want node 2 at 127.0.0.1:5", got)
			}
		})
	}
}
