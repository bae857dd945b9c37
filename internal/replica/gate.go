package replica

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// ErrRefused is the class of messages that the gate drops.
var ErrRefused = errors.New("replica: message refused")

// ErrLogLost: the leader knows that this replica acknowledged entries that its log does not have, and
// the log does not know it: it is an old copy. The replica must not take part with it.
var ErrLogLost = errors.New("replica: this node's log lacks entries it has acknowledged: its data " +
	"directory was set back to an older copy; replace the node by one with a new id: " +
	"connect member replace")

// admit is the gate before raft: raft trusts every message, so whatever could break it (a foreign
// sender, a missing term, entries with gaps, a commit index beyond the log) stops here.
func (r *Replica) admit(from uint64, m *pb.Message) error {
	if err := checkEnvelope(r.config.ID, from, m); err != nil {
		return fmt.Errorf("%w: group %d: %v of node %d: %w", ErrRefused, r.config.Group,
			m.GetType(), from, err)
	}
	if err := r.refuseFenced(m); err != nil {
		return fmt.Errorf("%w: group %d: %v of node %d: %w", ErrRefused, r.config.Group,
			m.GetType(), from, err)
	}
	// The leader caps the commit index of a heartbeat by what this replica has acknowledged as
	// durable, so one beyond the log proves a lost log. Raft would panic.
	if m.GetType() == pb.MsgHeartbeat && m.GetCommit() > r.last && m.GetTerm() >= r.term {
		r.fault = ErrLogLost
		return fmt.Errorf("%w: group %d: commit %d of node %d is beyond the last index %d: %w",
			ErrRefused, r.config.Group, m.GetCommit(), from, r.last, ErrLogLost)
	}
	return nil
}

func checkEnvelope(self, from uint64, m *pb.Message) error {
	if !isNetworkMessage(m.GetType()) {
		return errors.New("not a message between nodes")
	}
	if m.GetTo() != self {
		return fmt.Errorf("meant for node %d", m.GetTo())
	}
	if m.GetFrom() != from || raft.IsLocalMsgTarget(from) || from == self {
		return fmt.Errorf("claims to come from node %d", m.GetFrom())
	}
	if m.GetTerm() == 0 && m.GetType() != pb.MsgReadIndex {
		return errors.New("has no term")
	}
	if m.GetType() == pb.MsgHeartbeatResp && len(m.GetContext()) != 0 && len(m.GetContext()) != 8 {
		return fmt.Errorf("has a context of %d bytes", len(m.GetContext()))
	}
	if m.GetType() == pb.MsgReadIndex || m.GetType() == pb.MsgReadIndexResp {
		if len(m.GetEntries()) != 1 {
			return fmt.Errorf("has %d entries, want 1", len(m.GetEntries()))
		}
		return nil
	}
	return checkEntries(m)
}

func checkEntries(m *pb.Message) error {
	if m.GetType() != pb.MsgApp {
		if len(m.GetEntries()) != 0 {
			return errors.New("carries entries")
		}
		if m.GetType() == pb.MsgSnap {
			return checkSnapshot(m)
		}
		return nil
	}
	term := m.GetLogTerm()
	for i, e := range m.GetEntries() {
		if e.GetIndex() != m.GetIndex()+1+uint64(i) {
			return fmt.Errorf("has entry %d at the place of %d", e.GetIndex(),
				m.GetIndex()+1+uint64(i))
		}
		if e.GetTerm() < term || e.GetTerm() > m.GetTerm() {
			return fmt.Errorf("has entry %d with term %d between terms %d and %d", e.GetIndex(),
				e.GetTerm(), term, m.GetTerm())
		}
		term = e.GetTerm()
	}
	return nil
}

func checkSnapshot(m *pb.Message) error {
	if raft.IsEmptySnap(m.GetSnapshot()) {
		return errors.New("carries no snapshot")
	}
	meta := m.GetSnapshot().GetMetadata()
	if meta.GetTerm() == 0 || meta.GetTerm() > m.GetTerm() {
		return fmt.Errorf("carries a snapshot of term %d in term %d", meta.GetTerm(), m.GetTerm())
	}
	members := meta.GetConfState()
	if len(members.GetVoters()) == 0 {
		return errors.New("carries a snapshot without voters")
	}
	for _, id := range members.GetLearners() {
		if slices.Contains(members.GetVoters(), id) ||
			slices.Contains(members.GetVotersOutgoing(), id) {
			return fmt.Errorf("carries a snapshot with node %d as voter and learner", id)
		}
	}
	return nil
}

// isNetworkMessage reports whether peers may send t. A forwarded proposal is not among them: this
// module forwards commands with an answer of its own. Nor is MsgTransferLeader, whose From is the
// transferee.
func isNetworkMessage(t pb.MessageType) bool {
	switch t {
	case pb.MsgApp, pb.MsgAppResp, pb.MsgVote, pb.MsgVoteResp, pb.MsgPreVote, pb.MsgPreVoteResp,
		pb.MsgSnap, pb.MsgHeartbeat, pb.MsgHeartbeatResp, pb.MsgTimeoutNow, pb.MsgReadIndex,
		pb.MsgReadIndexResp:
		return true
	}
	return false
}
