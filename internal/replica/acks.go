package replica

import (
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// acks is what a replica knows of the acknowledgements that are still to come. Most of them only move
// what raft remembers: then their bearer may keep them until the next event, or the next tick.
type acks struct {
	stable   uint64 // index of the last entry that is acknowledged as durable
	handed   uint64 // index of the last entry handed out to be applied
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
		a.handed = e.GetIndex()
		a.applying += len(e.GetData())
	}
}

// note takes an acknowledgement in a term, when the log ends at last. Raft ignores that of an append of
// a term before: its entries may have been overwritten since. So may those of an append in this term,
// which names the end that the log had then: what comes to places behind last is not durable.
func (a *acks) note(m *pb.Message, term, last uint64) {
	switch m.GetType() {
	case pb.MsgStorageAppendResp:
		if m.GetTerm() == term {
			a.stable = max(a.stable, min(m.GetIndex(), last))
		}
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
// membership, may lead to anything: also to the next entry when it is too large to be handed out
// together with these, and on a new leader to the end of a joint configuration.
func (r *Replica) AwaitsApplied() bool {
	return r.stalled || r.members.waiting != nil || r.acks.applying > applyingMax ||
		min(r.commit, r.acks.stable) > r.acks.handed ||
		r.role == raft.StateLeader && isJoint(r.members.state)
}

// Settled returns the commit index while a follower's answer that names it leads to nothing; else 0. It
// does when all that there is to send is sent: to a member that is probed, or whose window is full, or
// that has only got the first part of a large proposal, more goes out with its answer.
func (r *Replica) Settled() uint64 {
	if r.role != raft.StateLeader || r.members.waiting != nil ||
		r.rn.BasicStatus().LeadTransferee != raft.None {
		return 0
	}
	unsent := false
	r.rn.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		unsent = unsent || id != r.config.ID &&
			(p.State != tracker.StateReplicate || p.MsgAppFlowPaused || p.Next <= r.last)
	})
	if unsent {
		return 0
	}
	return r.commit
}
