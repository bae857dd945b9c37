package replica

import (
	"encoding/binary"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// poll asks the members, before a change is proposed, whether they are there now. What raft knows of
// them is too old for that: of a member that died a moment ago it believes for up to two election
// timeouts that it answers.
//
// A poll is a round of heartbeats of its own, marked in their context, which comes back with the
// answers. It begins when nothing else stands in the way of the waiting change, and ends with whatever
// comes in its way, so all that counts was answered behind that moment. All are asked again, in the
// same poll, with each heartbeat interval: a message may be lost, and who has answered may be gone. An
// answer counts for two intervals from when it came, so the majority is one of about the same time.
// How long an answer was on its way does not matter: members may be far away.
//
// The change ends with the leadership, so a poll never outlives its term. An id is not used twice in a
// life of a node, and no node leads in one term in two lives: an answer counts by its id and its term.
type poll struct {
	id       uint64 // with pollMark; 0 = none is under way
	term     uint64
	asked    bool           // in this heartbeat interval
	answered map[uint64]int // when the newest answer came, as members.silence
}

// pollMark sets the ids of polls apart from what raft writes into the context of a heartbeat, the
// position of a read round, which it counts from 1 in each term.
const pollMark = 1 << 63

// pollID returns the id in the context of a heartbeat or its answer, 0 when it has none of a poll.
func pollID(m *pb.Message) uint64 {
	if len(m.GetContext()) != 8 {
		return 0
	}
	if id := binary.LittleEndian.Uint64(m.GetContext()); id&pollMark != 0 {
		return id
	}
	return 0
}

// askMembers begins the poll of the waiting change, or goes on with it.
func (r *Replica) askMembers() {
	p := &r.members.poll
	if p.asked {
		return
	}
	status := r.rn.BasicStatus()
	if p.id == 0 {
		r.members.polls++
		*p = poll{id: pollMark | r.members.polls, term: status.GetTerm(), answered: map[uint64]int{}}
	}
	p.asked = true
	r.rn.WithProgress(func(id uint64, _ raft.ProgressType, at tracker.Progress) {
		if id == r.config.ID {
			return
		}
		// The commit index is as in every heartbeat: the gate of a member that has lost its log
		// refuses it, and so does not answer.
		r.out.Messages = append(r.out.Messages, &pb.Message{Type: pb.MsgHeartbeat.Enum(),
			From: new(r.config.ID), To: new(id), Term: new(p.term), Context: readID(p.id),
			Commit: new(min(at.Match, status.GetCommit()))})
	})
}

// takeAnswer notes the answer to a poll and hides from raft that it is one: raft would take the id for
// the position of a read round, and every read for confirmed.
func (r *Replica) takeAnswer(m *pb.Message) {
	if m.GetType() != pb.MsgHeartbeatResp {
		return
	}
	id := pollID(m)
	if id == 0 {
		return
	}
	m.Context = nil
	if p := &r.members.poll; id == p.id && m.GetTerm() == p.term {
		p.answered[m.GetFrom()] = r.members.silence
	}
}

// checkQuorum refuses a change when its entry, or what comes behind it, could not be committed: each
// half of the configurations before and behind it needs a majority that has answered the poll. The
// leader counts itself.
func (r *Replica) checkQuorum(configs ...tracker.Config) error {
	for _, c := range configs {
		for _, half := range c.Voters {
			silent := slices.DeleteFunc(half.Slice(), func(id uint64) bool {
				return id == r.config.ID || r.hasAnswered(id)
			})
			if len(half) > 0 && 2*len(silent) >= len(half) {
				return fmt.Errorf("%w: of the voters %v these are silent: %v", ErrNoQuorum,
					half.Slice(), silent)
			}
		}
	}
	return nil
}

// hasAnswered reports whether an answer of a member to the poll counts.
func (r *Replica) hasAnswered(id uint64) bool {
	at, ok := r.members.poll.answered[id]
	return ok && r.members.silence-at < 2*r.config.HeartbeatTicks
}
