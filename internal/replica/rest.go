package replica

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// Rest is the state in which a group rests: every member that lives has the same log, all of it is
// committed, and nothing is under way. Nobody needs ticks then.
type Rest struct {
	Term, Index uint64
	Peers       []uint64 // who is to rest with the leader
}

// Rest reports whether this replica leads a group that may rest, when those members do not count
// that do not live. The others must be a majority and have been heard of since the leader last
// looked: when it gets ticks again its next look at the quorum finds them, and the one after that
// only those who have answered since.
func (r *Replica) Rest(lives func(id uint64) bool) (Rest, bool) {
	if r.role != raft.StateLeader || r.applyTerm != r.term || !r.still() {
		return Rest{}, false
	}
	rest := Rest{Term: r.term, Index: r.last}
	voters, present, behind := 0, 0, false
	r.rn.WithProgress(func(id uint64, kind raft.ProgressType, p tracker.Progress) {
		votes := kind == raft.ProgressTypePeer
		if votes {
			voters++
		}
		switch {
		case id == r.config.ID:
			present++
		case !lives(id):
		case !p.RecentActive || p.State != tracker.StateReplicate || p.Match != r.last:
			behind = true
		default:
			rest.Peers = append(rest.Peers, id)
			if votes {
				present++
			}
		}
	})
	return rest, !behind && present > voters/2
}

// RestsWith reports whether this replica follows that leader and is in the state in which the
// leader wants to rest.
func (r *Replica) RestsWith(leader, term, index uint64) bool {
	return r.role == raft.StateFollower && r.lead == leader && r.term == term && r.last == index &&
		r.still()
}

// still reports whether nothing is under way that takes time, or that ends by it.
func (r *Replica) still() bool {
	waiting := len(r.queue) + len(r.fresh) + len(r.placed.list) + len(r.reads.arrived) +
		len(r.reads.waiting)
	if waiting != 0 || r.ahead != 0 || r.commit != r.last || r.HasReady() || r.Holding() ||
		r.reads.open || r.reads.renewal || r.members.waiting != nil || isJoint(r.members.state) ||
		r.fence != 0 || r.fault != nil {
		return false
	}
	status := r.rn.BasicStatus()
	return status.Applied == r.commit && status.LeadTransferee == raft.None &&
		r.transfer.to == raft.None
}
