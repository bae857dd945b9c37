package node

import (
	"context"
	"errors"
	"fmt"
)

// Errors of commands and reads. Ask [OutcomeOf] whether the command may have been applied.
var (
	// ErrNoLeader: the group had no leader until the caller's context ended. Not applied.
	ErrNoLeader = errors.New("node: no leader")
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
	ErrGroupRemoved = errors.New("node: group removed")
	// ErrUnknown: the command was given to the log and its fate was not learned in time: it may
	// have been applied, it may yet be, or never. Repeat it only if it can be applied twice.
	ErrUnknown = errors.New("node: outcome unknown")
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

// OutcomeOf says what the error of Wait, Propose or Read means for the command. nil is Applied; an
// error that it does not know is Unknown.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Applied
	}
	if errors.Is(err, ErrUnknown) {
		return Unknown
	}
	if _, ok := errors.AsType[*NotLeaderError](err); ok {
		return NotApplied
	}
	for _, sure := range []error{ErrNoLeader, ErrOverloaded, ErrTooLarge, ErrDiskFull, ErrClosed,
		ErrGroupFailed, ErrGroupRemoved} {
		if errors.Is(err, sure) {
			return NotApplied
		}
	}
	return Unknown
}

// unknown wraps why a command's fate is not known.
func unknown(why string) error { return fmt.Errorf("%w: %s", ErrUnknown, why) }

// waitError is the error of a wait that ended with its context while the command was not proposed, or
// the read not run: it is withdrawn, so the outcome is definite.
func (g *Group) waitError(ctx context.Context) error {
	if g.lead.Load() == 0 {
		return fmt.Errorf("%w before %w", ErrNoLeader, context.Cause(ctx))
	}
	return fmt.Errorf("%w: not begun before %w", ErrOverloaded, context.Cause(ctx))
}
