package replica

import (
	"bytes"
	"errors"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// The lease of a leader. Raft's own (ReadOnlyLeaseBased) answers as long as the leader has not noticed
// that it is cut off, which takes it up to two election timeouts, while the others elect after one
// (raft issue 166). Ours is a fact about the others: whoever hears of a leader votes for nobody for an
// election timeout. So a round of ReadIndex that began at t and was confirmed by a quorum proves that
// nobody is elected before t plus what Config.Lease leaves of an election timeout.
//
// That holds because
//
//   - a replica does not answer votes for ElectionTicks ticks after each message of a leader, whatever
//     else it hears meanwhile, and for as long after its start, when it does not know what it had
//     heard (raft's own check ends when a message of a higher term comes in, and with a restart);
//   - ticks never come in bursts, so that n ticks take at least n-2 times the tick: one may have been
//     due before the message, another one follow at once;
//   - a forced election (campaignTransfer), which that silence does not hold up, begins only with a
//     MsgTimeoutNow of the leader, which has no lease from that moment to the end of its term: the
//     message may come late;
//   - raft's ForgetLeader, and an election on request (Campaign) within the silence, are refused;
//   - a leader whose first entry is not committed begins no rounds;
//   - the quorum that confirmed a round and the one that elects overlap, because a leader applies a
//     change of the membership before it proposes the next one, and drops the lease with it.
var errSilent = errors.New("replica: a leader may have been heard of within an election timeout")

// campaignTransfer is how raft marks the request for a vote that a transfer has forced.
var campaignTransfer = []byte("CampaignTransfer")

// hear notes a message of a leader. It may be one that raft refuses: a silence too long costs
// nothing but time.
func (r *Replica) hear(m *pb.Message) {
	switch m.GetType() {
	case pb.MsgApp, pb.MsgHeartbeat, pb.MsgSnap:
		if m.GetTerm() >= r.term {
			r.silence = r.config.ElectionTicks
		}
	}
}

// keepsSilent reports whether a request for a vote must go unanswered. What raft only answers to tell
// the candidate its own, higher term goes on.
func (r *Replica) keepsSilent(m *pb.Message) bool {
	if r.silence == 0 || m.GetTerm() < r.term {
		return false
	}
	switch m.GetType() {
	case pb.MsgVote, pb.MsgPreVote:
		return !bytes.Equal(m.GetContext(), campaignTransfer)
	}
	return false
}

// leased returns the index that a read under the lease may run at, 0 when there is no lease. With
// less than half of it left the next round begins although no read waits for it.
func (r *Replica) leased(mono int64) uint64 {
	lease := &r.reads.lease
	if lease.index == 0 {
		return 0
	}
	status := r.rn.BasicStatus()
	age := mono - lease.began
	if status.RaftState != raft.StateLeader || status.GetTerm() != lease.term ||
		lease.leader != r.config.ID || status.LeadTransferee != raft.None ||
		r.forced == lease.term || age >= int64(r.config.Lease) {
		return 0
	}
	r.reads.renewal = r.reads.renewal || age > int64(r.config.Lease)/2
	return status.GetCommit()
}

// revoke ends the lease. The round under way does not bring it back.
func (r *reads) revoke() {
	r.lease, r.round.lasts = round{}, false
}
