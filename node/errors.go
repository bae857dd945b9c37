package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/connectraft/connect/internal/apply"
)

// Errors of commands and reads. [AdviceOf] tells whether the command may have been applied, whether
// the same bytes can be sent again, and to whom.
var (
	// ErrNoLeader: the group had no leader until the caller's context ended. Not applied.
	ErrNoLeader = errors.New("node: no leader")
	// ErrBehind: a read at an index waited until its context ended for this node to apply so much.
	// Read later, or on another node.
	ErrBehind = errors.New("node: the index is not applied here")
	// ErrOverloaded: the group has as many commands in flight as the options allow. Not applied;
	// try again later, on any node.
	ErrOverloaded = errors.New("node: overloaded")
	// ErrTooLarge: the command exceeds Options.CommandBytes. Not applied; it never will be.
	ErrTooLarge = errors.New("node: command too large")
	// ErrDiskFull: the leader's disk has no room for more commands. Not applied; reads go on, and
	// writes are taken again by themselves when there is room.
	ErrDiskFull = errors.New("node: disk full")
	// ErrClosed: the node is shutting down. Not applied; ask another node.
	ErrClosed = errors.New("node: closed")
	// ErrGroupFailed: the group's state machine or its storage failed on this node; Status says
	// why. Ask another node.
	ErrGroupFailed = errors.New("node: group failed")
	// ErrGroupRemoved: the group was removed from the cluster, and its id never returns. Not applied.
	// CreateGroup returns it too.
	ErrGroupRemoved = apply.ErrGroupRemoved
	// ErrSessionExpired: the session does not exist (any more): it was closed, not used for an hour,
	// or made room for newer ones. This submission was not applied; whether an earlier one of the
	// same sequence was cannot be found out any more. Open another session.
	ErrSessionExpired = apply.ErrSessionExpired
	// ErrSequenceTooOld: the session has acknowledged the answer to this sequence, or given it up.
	// This submission was not applied; an earlier one may have been.
	ErrSequenceTooOld = apply.ErrSequenceTooOld
	// ErrSessionFull: the session has 1,024 sequences or 1 MiB of answers that it has not
	// acknowledged. This submission was not applied; repeat it under the same sequence with a newer
	// acknowledgement.
	ErrSessionFull = apply.ErrSessionFull
	// ErrUnknown: the command was given to the log and its fate was not learned in time: it may
	// have been applied, it may yet be, or never. Repeat it only if it can be applied twice.
	ErrUnknown = errors.New("node: outcome unknown")
)

// Errors of changes of the members and of transfers: each says that what was asked was not done. A
// [ChangeError] says what stands.
var (
	// ErrConflict: the membership is not the one that the change was decided on. Look at it again.
	ErrConflict = errors.New("node: the membership has changed")
	// ErrChangePending: another change, or transfer, is under way. Ask again later.
	ErrChangePending = errors.New("node: another change is under way")
	// ErrNoQuorum: with the members that answer now the new voters could commit nothing, or the
	// present ones cannot. Start those that are down, or replace them, one after the other.
	ErrNoQuorum = errors.New("node: no majority of the voters answers")
	// ErrInvalidChange: the change can never be made like this.
	ErrInvalidChange = errors.New("node: invalid change")
	// ErrTransferFailed: the voter that was to lead did not take over.
	ErrTransferFailed = errors.New("node: leadership not transferred")
)

// Errors of a node that has no part in a group, from Ready and from every call. Not applied.
var (
	// ErrNotAdded: this node waits until it is added to the group.
	ErrNotAdded = errors.New("node: waits to be added")
	// ErrRemoved: this node was a member of the group and is none any more; it can be stopped.
	ErrRemoved = errors.New("node: removed")
	// ErrRefused: the others know this node with another data directory. It must be replaced by a
	// node with a new id.
	ErrRefused = errors.New("node: refused by the others")
)

// NotLeaderError says that a node that was asked as the leader is not. Not applied.
type NotLeaderError struct {
	Leader uint64 // whom to ask, 0 = nobody knows
}

func (e *NotLeaderError) Error() string {
	if e.Leader == 0 {
		return "node: not the leader, and the leader is not known"
	}
	return fmt.Sprintf("node: not the leader; ask node %d", e.Leader)
}

// Outcome is what became of a command.
type Outcome int

const (
	// Applied: the command is in the state of the group, once.
	Applied Outcome = iota
	// NotApplied: the command is not in the state and never will be; repeating it is safe.
	NotApplied
	// Unknown: the command may have been applied, or may yet be.
	Unknown
)

// Ask says where a command that ended with an error has a chance.
type Ask int

const (
	// AskNobody: the same bytes end the same everywhere, or must not be repeated.
	AskNobody Ask = iota
	// AskAnyone: the same or another node, a moment later.
	AskAnyone
	// AskAnother: another node; this one cannot.
	AskAnother
	// AskLeader: the node that Advice.Leader names.
	AskLeader
)

// Advice is what an error of a command means for the one who got it.
type Advice struct {
	// Outcome: may the command have been applied?
	Outcome Outcome
	// RetrySafe: the same bytes can be given to the cluster again and are not applied twice for it.
	// A command of a session can be repeated under its sequence after any error but
	// ErrSessionExpired; a read after any.
	RetrySafe bool
	// Ask: which node is worth asking.
	Ask Ask
	// Leader is the node that leads, with AskLeader.
	Leader uint64
}

// advices has what is known about each error. What matches none of them is unknown.
//
//	error              applied?  the same bytes again     ask
//	ErrUnknown         perhaps   only if twice is harmless
//	ErrNoLeader        no        yes                      anyone, later
//	ErrBehind          no        yes                      anyone, later
//	ErrOverloaded      no        yes                      anyone, later
//	ErrDiskFull        no        yes                      anyone, later
//	ErrTooLarge        no        of no use
//	ErrClosed          no        yes                      another node
//	ErrGroupFailed     no        yes                      another node
//	ErrGroupRemoved    no        of no use
//	ErrSessionExpired  no        no, not even under another sequence
//	ErrSequenceTooOld  perhaps   no
//	ErrSessionFull     no        yes, the same sequence   anyone, later
//	ErrNotAdded, ErrRemoved, ErrRefused
//	                   no        yes                      another node
//	ErrConflict, ErrInvalidChange
//	                   no        of no use
//	ErrGroupExists, ErrNoGroup, ErrGroupID, ErrTooManyGroups
//	                   no        of no use
//	ErrChangePending, ErrNoQuorum, ErrTransferFailed
//	                   no        yes                      anyone, later
//	ChangeError        in part, if it has begun: yes, it goes on from there
//	NotLeaderError     no        yes                      the leader it names, or anyone
//
// What is said of a command of a session is said of one submission of it; an earlier one of the same
// sequence may have been applied. [Session] minds that, and callers of Group.GoSession do.
var advices = []struct {
	err error
	Advice
}{
	{ErrUnknown, Advice{Outcome: Unknown}},
	{ErrNoLeader, Advice{NotApplied, true, AskAnyone, 0}},
	{ErrBehind, Advice{NotApplied, true, AskAnyone, 0}},
	{ErrOverloaded, Advice{NotApplied, true, AskAnyone, 0}},
	{ErrDiskFull, Advice{NotApplied, true, AskAnyone, 0}},
	{ErrTooLarge, Advice{NotApplied, true, AskNobody, 0}},
	{ErrClosed, Advice{NotApplied, true, AskAnother, 0}},
	{ErrGroupFailed, Advice{NotApplied, true, AskAnother, 0}},
	{ErrGroupRemoved, Advice{NotApplied, true, AskNobody, 0}},
	{ErrNotAdded, Advice{NotApplied, true, AskAnother, 0}},
	{ErrRemoved, Advice{NotApplied, true, AskAnother, 0}},
	{ErrRefused, Advice{NotApplied, true, AskAnother, 0}},
	{ErrConflict, Advice{NotApplied, true, AskNobody, 0}},
	{ErrChangePending, Advice{NotApplied, true, AskAnyone, 0}},
	{ErrNoQuorum, Advice{NotApplied, true, AskAnyone, 0}},
	{ErrInvalidChange, Advice{NotApplied, true, AskNobody, 0}},
	{ErrTransferFailed, Advice{NotApplied, true, AskAnyone, 0}},
	{ErrGroupExists, Advice{NotApplied, true, AskNobody, 0}},
	{ErrNoGroup, Advice{NotApplied, true, AskNobody, 0}},
	{ErrGroupID, Advice{NotApplied, true, AskNobody, 0}},
	{ErrTooManyGroups, Advice{NotApplied, true, AskNobody, 0}},
	{ErrSessionExpired, Advice{NotApplied, false, AskNobody, 0}},
	{ErrSequenceTooOld, Advice{Unknown, false, AskNobody, 0}},
	{ErrSessionFull, Advice{NotApplied, true, AskAnyone, 0}},
}

// AdviceOf says what the error of Wait, Propose, Read or another call of a group means. nil is
// Applied; an error that is none of this package is Unknown, and not safe to repeat.
func AdviceOf(err error) Advice {
	if err == nil {
		return Advice{Outcome: Applied}
	}
	if e, ok := errors.AsType[*ChangeError](err); ok {
		a := AdviceOf(e.Err)
		a.Outcome, a.RetrySafe = NotApplied, true
		if e.Begun {
			a.Outcome = Unknown
		}
		return a
	}
	for _, known := range advices {
		if errors.Is(err, known.err) {
			return known.Advice
		}
	}
	e, ok := errors.AsType[*NotLeaderError](err)
	switch {
	case ok && e.Leader == 0:
		return Advice{NotApplied, true, AskAnyone, 0}
	case ok:
		return Advice{NotApplied, true, AskLeader, e.Leader}
	}
	return Advice{Outcome: Unknown}
}

// OutcomeOf says what the error of Wait, Propose or Read means for the command; it is a part of
// AdviceOf.
func OutcomeOf(err error) Outcome { return AdviceOf(err).Outcome }

// unknown wraps why a command's fate is not known.
func unknown(why string) error { return fmt.Errorf("%w: %s", ErrUnknown, why) }

// waitError is the error of a wait that ended with its context while the command was not proposed, or
// the read not run: it is withdrawn, so the outcome is definite.
func (g *Group) waitError(ctx context.Context, c *Call) error {
	if applied := g.apply.applied.Load(); applied < c.level.index {
		return fmt.Errorf("%w: %d of %d before %w", ErrBehind, applied, c.level.index,
			context.Cause(ctx))
	}
	if g.lead.Load() == 0 {
		return fmt.Errorf("%w before %w", ErrNoLeader, context.Cause(ctx))
	}
	return fmt.Errorf("%w: not begun before %w", ErrOverloaded, context.Cause(ctx))
}

// Refusals of CreateGroup and RemoveGroup. Nothing was changed.
var (
	// ErrGroupExists: a group of that id exists already.
	ErrGroupExists = apply.ErrGroupExists
	// ErrNoGroup: no group of that id was ever created.
	ErrNoGroup = apply.ErrNoGroup
	// ErrGroupID: the id is not one that a group can be created or removed under.
	ErrGroupID = apply.ErrGroupID
	// ErrTooManyGroups: there is no room for another group.
	ErrTooManyGroups = apply.ErrTooManyGroups
)
