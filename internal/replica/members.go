package replica

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/confchange"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"
)

// Errors that end a change of the membership. The change surely does not happen.
var (
	// ErrConflict: the membership is not the one that the change was decided on.
	ErrConflict = errors.New("replica: the membership has changed meanwhile")
	// ErrChangePending: another change is under way, and was for an election timeout.
	ErrChangePending = errors.New("replica: another change of the membership is under way")
	// ErrNoQuorum: too few members have answered since the change was asked for, in an election
	// timeout, to commit anything, before it or behind it. The text names those who have not.
	ErrNoQuorum = errors.New("replica: no majority of the members answers")
	// ErrInvalidChange: the change makes no membership that a group can have.
	ErrInvalidChange = errors.New("replica: invalid change of the membership")
	// ErrTransferFirst: the change takes the vote of the leader that was asked. It must hand its
	// leadership over before.
	ErrTransferFirst = errors.New("replica: the leader must hand over first")
)

// Change is one change of the membership on its way.
type Change interface {
	// ConfChange is the entry to propose. Several changes in one go through joint consensus; the
	// joint configuration is left without another request.
	ConfChange() *pb.ConfChangeV2
	// Version is the membership that the change was decided on (Status.Version), 0 = any.
	Version() uint64
}

// ChangeEnd says how a change ended that is not applied here.
type ChangeEnd struct {
	Change Change
	Err    error
	// Unknown is set when the change may happen all the same.
	Unknown bool
}

// Membership is the configuration of a group from an index on. A change of several members is
// complete when the configuration has no outgoing voters any more.
type Membership struct {
	Index     uint64
	ConfState *pb.ConfState
	Change    Change // of this replica, that made it so; nil when it came from elsewhere
}

// members is what a replica knows about the configuration of its group.
//
// A change takes effect when its entry is handed out to be applied. The leader proposes the next one
// when that entry is acknowledged as applied: raft turns an earlier one into an empty entry. So does a
// new leader until its own first entry is applied, because changes may stand before that.
type members struct {
	state *pb.ConfState
	// version is the index of the entry that made state, versionUnknown when a snapshot did and the
	// state machine's stage has not said yet what it is.
	version uint64
	// logged is the index up to which the log may have changes: that of the last one. A log is not
	// looked through at a start, nor when its end is overwritten.
	logged  uint64
	applied position
	// kept is the index of the last entry that was handed to the log before the commit index of the
	// last change was: when an entry behind it is durable, so is that commit index.
	kept uint64

	waiting Change // asked for and not proposed
	ticks   int    // for which it has waited for another one's end
	silence int    // for which it has waited for members that are silent
	poll    poll   // asks them
	polls   uint64 // that have begun in this life
}

type position struct{ index, term uint64 }

const versionUnknown = ^uint64(0)

// ChangeMembers asks for a change. It waits for an election timeout at most while another one, or a
// transfer, comes to its end, and for another one until so many members have answered that neither
// the change nor what comes behind it loses the quorum. One that is asked for while another one waits
// ends at once. How it ends comes with Apply.Members or Changes. Commands rest from its proposal until
// it is applied.
func (r *Replica) ChangeMembers(c Change) {
	if r.members.waiting != nil {
		r.endChange(c, ErrChangePending)
		return
	}
	r.members.waiting, r.members.ticks, r.members.silence = c, 0, 0
}

func (r *Replica) endChange(c Change, err error) {
	r.out.Changes = append(r.out.Changes, ChangeEnd{Change: c, Err: err})
}

// changeMoves reports whether Ready would do something with the waiting change.
func (r *Replica) changeMoves() bool {
	if r.members.waiting == nil {
		return false
	}
	reason := r.refuseChange(r.members.waiting)
	return !r.rests(reason) || errors.Is(reason, ErrNoQuorum) && !r.members.poll.asked
}

// rests reports whether a change that is refused for this reason goes on waiting.
func (r *Replica) rests(reason error) bool {
	switch {
	case errors.Is(reason, ErrChangePending):
		return r.members.ticks < r.config.ElectionTicks
	case errors.Is(reason, ErrNoQuorum):
		return r.members.silence < r.config.ElectionTicks
	}
	return false
}

// proposeChange puts the waiting change into the log, or ends it, or asks the members first.
func (r *Replica) proposeChange() {
	c := r.members.waiting
	if c == nil {
		return
	}
	err := r.refuseChange(c)
	if errors.Is(err, ErrNoQuorum) && r.rests(err) {
		r.askMembers()
		return
	}
	r.members.poll = poll{}
	if r.rests(err) {
		return
	}
	if err == nil {
		err = r.stepChange(c)
		if errors.Is(err, raft.ErrProposalDropped) {
			r.stalled = true // no room for uncommitted bytes: rests with the commands
			return
		}
	}
	r.members.waiting = nil
	if err != nil {
		r.endChange(c, err)
	}
}

// stepChange proposes a change. Raft does not return an error for one that it refuses, but puts an
// empty entry in its place, and shows that in the message.
func (r *Replica) stepChange(c Change) error {
	data, err := proto.Marshal(c.ConfChange())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidChange, err)
	}
	m := r.proposal([]*pb.Entry{{Type: pb.EntryConfChangeV2.Enum(), Data: data}})
	if err := r.rn.Step(m); err != nil {
		return err
	}
	if m.GetEntries()[0].GetType() == pb.EntryNormal {
		return ErrChangePending
	}
	r.fresh = append(r.fresh, &Batch{change: c})
	return nil
}

// refuseChange says why a change cannot be proposed now.
func (r *Replica) refuseChange(c Change) error {
	status, m := r.rn.BasicStatus(), &r.members
	if status.RaftState != raft.StateLeader {
		return ErrNotLeader
	}
	if v := c.Version(); v != 0 && v != m.version {
		return fmt.Errorf("%w: it is at version %d, the change was decided on %d", ErrConflict,
			m.version, v)
	}
	if m.applied.term != status.GetTerm() || m.applied.index < m.logged || isJoint(m.state) ||
		status.LeadTransferee != raft.None || r.stalled {
		return ErrChangePending
	}
	if err := checkChange(c.ConfChange()); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidChange, err)
	}
	now, err := restore(m.state)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidChange, err)
	}
	next, err := changed(now, c.ConfChange())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidChange, err)
	}
	if _, votes := next.Voters[0][r.config.ID]; !votes {
		return ErrTransferFirst
	}
	return r.checkQuorum(now.Config, next.Config)
}

// checkChange refuses what raft would panic at, and what it would not leave by itself.
func checkChange(c *pb.ConfChangeV2) error {
	switch c.GetTransition() {
	case pb.ConfChangeTransitionAuto, pb.ConfChangeTransitionJointImplicit:
	default:
		return fmt.Errorf("transition %d", c.GetTransition())
	}
	if len(c.GetChanges()) == 0 {
		return errors.New("no changes")
	}
	for _, single := range c.GetChanges() {
		if id := single.GetNodeId(); id == raft.None || raft.IsLocalMsgTarget(id) {
			return fmt.Errorf("no node can have the id %d", id)
		}
	}
	return nil
}

// restore makes raft's form of a configuration.
func restore(state *pb.ConfState) (tracker.ProgressTracker, error) {
	t := tracker.MakeProgressTracker(1, 0)
	var err error
	t.Config, t.Progress, err = confchange.Restore(confchange.Changer{Tracker: t, LastIndex: 1},
		state)
	return t, err
}

// changed returns the configuration behind a change, or why raft would panic at it. It is a function
// of the log alone, so every replica comes to the same result.
func changed(now tracker.ProgressTracker, c *pb.ConfChangeV2) (tracker.ProgressTracker, error) {
	changer := confchange.Changer{Tracker: now, LastIndex: 1}
	var err error
	switch c.GetTransition() {
	case pb.ConfChangeTransitionAuto, pb.ConfChangeTransitionJointImplicit,
		pb.ConfChangeTransitionJointExplicit:
	default:
		return now, fmt.Errorf("transition %d", c.GetTransition())
	}
	if autoLeave, joint := c.EnterJoint(); c.LeaveJoint() {
		now.Config, now.Progress, err = changer.LeaveJoint()
	} else if joint {
		now.Config, now.Progress, err = changer.EnterJoint(autoLeave, c.GetChanges()...)
	} else {
		now.Config, now.Progress, err = changer.Simple(c.GetChanges()...)
	}
	return now, err
}

// applyChange applies the change in a committed entry and returns the membership behind it. One that
// makes no membership is refused, on every replica alike.
func (r *Replica) applyChange(e *pb.Entry) (*pb.ConfState, error) {
	c, err := parseChange(e)
	if err == nil {
		var now tracker.ProgressTracker
		if now, err = restore(r.members.state); err == nil {
			_, err = changed(now, c)
		}
	}
	if err != nil {
		r.config.Logger.Warningf("group %d: the change of the membership at index %d is refused: %v",
			r.config.Group, e.GetIndex(), err)
		r.members.version = e.GetIndex() // as in the directory, which counts every such entry
		return nil, fmt.Errorf("%w: %w", ErrInvalidChange, err)
	}
	state := r.rn.ApplyConfChange(c)
	r.members.state, r.members.version = state, e.GetIndex()
	r.reads.revoke()
	return state, nil
}

func parseChange(e *pb.Entry) (*pb.ConfChangeV2, error) {
	if e.GetType() == pb.EntryConfChange {
		var c pb.ConfChange
		err := proto.Unmarshal(e.GetData(), &c)
		return c.AsV2(), err
	}
	var c pb.ConfChangeV2
	err := proto.Unmarshal(e.GetData(), &c)
	return &c, err
}

// tickMembers counts the age of the waiting change, has the silent members asked again, and leaves a
// joint configuration that raft does not leave: its attempt was dropped for a transfer that failed,
// and it makes the next one when something else is applied.
func (r *Replica) tickMembers() {
	m := &r.members
	switch {
	case m.waiting == nil:
	case errors.Is(r.refuseChange(m.waiting), ErrNoQuorum):
		m.silence++
		m.poll.asked = m.poll.asked && m.silence%r.config.HeartbeatTicks != 0
	default:
		m.ticks++
	}
	if !isJoint(m.state) || m.applied.index < max(m.logged, m.version) {
		return
	}
	status := r.rn.BasicStatus()
	if status.RaftState == raft.StateLeader && m.applied.term == status.GetTerm() &&
		status.LeadTransferee == raft.None && !r.rn.HasReady() {
		// An error is that of the uncommitted bytes, which an empty entry does not meet.
		_ = r.rn.Step(r.proposal([]*pb.Entry{{Type: pb.EntryConfChangeV2.Enum()}}))
	}
}

// noteChanges remembers where the last change stands in the log, which these entries go on.
func (m *members) noteChanges(entries []*pb.Entry) {
	if len(entries) > 0 {
		m.logged = min(m.logged, entries[0].GetIndex()-1)
	}
	for _, e := range entries {
		if e.GetType() != pb.EntryNormal {
			m.logged = e.GetIndex()
		}
	}
}

// Restored says which version the membership in the snapshot has that was just restored. It comes
// before the acknowledgement of the snapshot, or no Ready comes between them.
func (r *Replica) Restored(version uint64) { r.members.version = version }

// Members returns the configuration as of the last entry handed out to be applied; it is not to be
// changed.
func (r *Replica) Members() *pb.ConfState { return r.members.state }

// PendingChanges takes every change that this replica still holds, for a caller that gives it up.
func (r *Replica) PendingChanges() []ChangeEnd {
	ends := r.out.Changes
	r.out.Changes = nil
	if c := r.members.waiting; c != nil {
		r.members.waiting = nil
		ends = append(ends, ChangeEnd{Change: c})
	}
	for _, b := range append(r.fresh, r.placed.list...) {
		if b != nil && b.change != nil {
			ends = append(ends, ChangeEnd{Change: b.change, Unknown: true})
			b.change = nil
		}
	}
	if r.out.Apply != nil {
		for i, m := range r.out.Apply.Members {
			if m.Change != nil {
				ends = append(ends, ChangeEnd{Change: m.Change, Unknown: true})
				r.out.Apply.Members[i].Change = nil
			}
		}
	}
	return ends
}

// Progress is what a leader knows about a member.
type Progress struct {
	ID          uint64
	Match, Next uint64 // its log is known to reach Match, and gets Next next
	State       tracker.StateType
	Active      bool   // heard of since the last look at the quorum, one each election timeout
	Learner     bool   // has no vote
	Snapshot    uint64 // index of the snapshot it is being sent, 0 = none
}

// Progress returns what this replica knows about each member, itself among them; nil when it does not
// lead.
func (r *Replica) Progress() (list []Progress) {
	if r.role != raft.StateLeader {
		return nil
	}
	r.rn.WithProgress(func(id uint64, kind raft.ProgressType, p tracker.Progress) {
		list = append(list, Progress{ID: id, Match: p.Match, Next: p.Next, State: p.State,
			Active:  p.RecentActive || id == r.config.ID,
			Learner: kind == raft.ProgressTypeLearner, Snapshot: p.PendingSnapshot})
	})
	return list
}

func isJoint(state *pb.ConfState) bool { return len(state.GetVotersOutgoing()) > 0 }

func isLearner(state *pb.ConfState, id uint64) bool {
	return slices.Contains(state.GetLearners(), id)
}
