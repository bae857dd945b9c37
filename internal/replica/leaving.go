package replica

import pb "go.etcd.io/raft/v3/raftpb"

// A member that has left may be needed once more. When its removal is committed those that stay need
// not know it. Who of them starts again goes by the configuration before, in which it may need the
// vote of the one that left: always where two voters have become one, and without one of those that
// stay where four have become three, or one of three was replaced. The one that left has applied its
// removal, so it stands for no election, and nobody sends it anything any more. It votes for whom it
// may vote for, a log that is not behind its own. Were its log longer than those of all that stay and
// live, the group would have no leader for ever. So
//
//   - a leader puts no commands behind a change of the membership that it has not applied. What was
//     committed with a removal is then all that the one that left has, but for first entries of
//     leaders. Commands wait in the queue meanwhile, as during a transfer. Behind a change that
//     cannot be committed they could not be either; a leader that is removed still has them all, and
//     they were surely not applied;
//   - what a leader sends before it has applied such a change is durable in its own log first. The
//     first entry of a leader, which a power cut takes back, would be left on the one that left alone.
//     So is what it sends before the commit of such a change is durable there: a member that lost its
//     vote and stays as a learner gets entries, and stands for no election either.
//
// Where one or two voters stay, nothing is left then that none of them holds: two need each other in any
// case. Where three or more stay there is one more way: the leader that they elect before any of them
// knows of the commit has its first entry on itself and the one that left alone, and is lost for good.

// changing reports whether the log has, or may have, a change of the membership that is not applied
// here. A joint configuration is half of one: raft puts the other half into the log by itself.
func (r *Replica) changing() bool {
	return r.members.logged > r.acks.handed || isJoint(r.members.state)
}

// mustBeDurable reports whether a message of this leader leaves when the log is durable.
func (r *Replica) mustBeDurable(m *pb.Message) bool {
	if m.GetType() == pb.MsgVote {
		return true
	}
	entries := m.GetEntries()
	return len(entries) > 0 && entries[len(entries)-1].GetIndex() > r.acks.stable &&
		(r.changing() || r.acks.stable <= r.members.kept)
}
