package replica

import (
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// acks is what a replica knows of the acknowledgements that are still to come. Most of them only move
// what raft remembers: then their bearer may keep them until the next event, or the next tick.
type acks struct {
	stable   uint64 // index of the last entry that is acknowledged as durable
	applying int    // bytes of entries handed out and not acknowledged as applied
}

// applyingMax is about how many bytes may be handed out to be applied before an acknowledgement is
// waited for: raft hands out no more at four times as much.
const applyingMax = maxApplyBytes / 4

const maxApplyBytes = 16 << 20

func (a *acks) appends(entries []*pb.Entry) {
	if len(entries) > 0 {
		a.stable = min(a.stable, entries[0].GetIndex()-1)
	}
}

func (a *acks) applies(entries []*pb.Entry) {
	for _, e := range entries {
		a.applying += len(e.GetData())
	}
}

func (a *acks) note(m *pb.Message) {
	switch m.GetType() {
	case pb.MsgStorageAppendResp:
		a.stable = max(a.stable, m.GetIndex())
	case pb.MsgStorageApplyResp:
		for _, e := range m.GetEntries() {
			a.applying -= len(e.GetData())
		}
	}
}

// AwaitsAppended reports whether the acknowledgement of an append may lead to anything. On a follower
// it does when entries are committed that are not known to be durable here.
func (r *Replica) AwaitsAppended() bool {
	return r.role != raft.StateFollower || r.commit > r.acks.stable || r.fence != 0
}

// AwaitsApplied reports whether the acknowledgement of applied entries, none of which changes the
// membership, may lead to anything.
func (r *Replica) AwaitsApplied() bool {
	return r.stalled || r.members.waiting != nil || r.acks.applying > applyingMax
}

// Settled returns the commit index while a follower's answer that names it leads to nothing; else 0.
func (r *Replica) Settled() uint64 {
	if r.role != raft.StateLeader || r.members.waiting != nil ||
		r.rn.BasicStatus().LeadTransferee != raft.None {
		return 0
	}
	return r.commit
}
