package replica

import (
	"errors"

	pb "go.etcd.io/raft/v3/raftpb"
)

// A replica that has lost the end of its log has acknowledged entries, and perhaps given votes, that
// it does not remember. It is fenced: it neither campaigns nor votes. It starts at a term above every
// term it may have taken part in (its caller has asked so many others for theirs that one of them is
// in every quorum this replica was part of), so that a leader that counts on its acknowledgements
// steps down, and the next one asks anew what it holds. That leader is elected without its vote, so
// its quorum met every quorum that committed anything in a node other than this one: it holds
// everything that was ever acknowledged with this replica's help. When this replica holds a committed
// entry of such a leader it holds all before it too, and the fence is lifted.

var errFenced = errors.New("this replica is fenced")

// refuseFenced keeps what a fenced replica must not answer from it.
func (r *Replica) refuseFenced(m *pb.Message) error {
	if r.fence == 0 {
		return nil
	}
	switch m.GetType() {
	case pb.MsgVote, pb.MsgPreVote, pb.MsgTimeoutNow:
		return errFenced
	}
	return nil
}

// liftFence lifts the fence when a committed entry, or a snapshot, of a term that began after the
// loss is durable here.
func (r *Replica) liftFence(term uint64) {
	if r.fence != 0 && term > r.fence {
		r.fence = 0
		r.out.Unfenced = true
	}
}
