package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Change is everything that is to become different in the membership of a group. To replace a node
// is to Add the new one and to Remove the old one in one Change.
type Change struct {
	// Version is that of the Membership the change was decided on; 0 = whatever it is now.
	Version uint64
	Add     []Member // become voters once they have caught up; ids that were never used before
	Learn   []Member // become learners and catch up: they get everything, and have no vote
	Promote []uint64 // learners that become voters once they have caught up
	Remove  []uint64
	// Readdress has members with the addresses they have from now on. What is empty stays.
	Readdress []Member
}

// Phase is what a change is doing.
type Phase string

const (
	PhaseAdding       Phase = "adding learners"
	PhaseReaddressing Phase = "changing addresses"
	PhaseCatchingUp   Phase = "catching up" // the new members are sent the state and the log
	PhaseTransferring Phase = "transferring the leadership"
	PhaseSwitching    Phase = "switching voters" // those that are added and removed, at once
)

// MemberProgress is how far a member is from the leader.
type MemberProgress struct {
	ID        uint64 `json:"id"`
	Connected bool   `json:"connected"`
	Entries   uint64 `json:"entries_behind"`
	Bytes     int64  `json:"bytes_behind"`
	Snapshot  uint64 `json:"snapshot,omitempty"` // index of the snapshot it is being sent, 0 = none
}

// ChangeProgress is how far a change is.
type ChangeProgress struct {
	Phase   Phase            `json:"phase"`
	Members []MemberProgress `json:"members,omitempty"` // those that the phase waits for
	Now     Membership       `json:"now"`
}

// ChangeError says why a change did not finish, and what stands. The same change can be asked for
// again: it goes on from there.
type ChangeError struct {
	Phase   Phase
	Now     Membership       // as last seen; zero when no leader was found
	Members []MemberProgress // those that the phase waited for
	Done    string           // what became of each part, for people
	Begun   bool             // something of it may have been done
	Err     error            // [ErrConflict], [ErrNoQuorum] and so on, or that of the context
}

func (e *ChangeError) Error() string {
	var b strings.Builder
	b.WriteString("node: membership not changed")
	if e.Phase != "" {
		fmt.Fprintf(&b, " (%s)", e.Phase)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	for _, m := range e.Members {
		switch {
		case !m.Connected:
			fmt.Fprintf(&b, "; node %d is not connected: start it with the option to join, at the "+
				"address that was given", m.ID)
		case m.Snapshot != 0:
			fmt.Fprintf(&b, "; node %d is being sent the snapshot up to %d", m.ID, m.Snapshot)
		default:
			fmt.Fprintf(&b, "; node %d is %d entries (%d bytes) behind", m.ID, m.Entries, m.Bytes)
		}
	}
	if e.Done != "" {
		fmt.Fprintf(&b, "; now %s; the same change again goes on from there", e.Done)
	}
	return b.String()
}

func (e *ChangeError) Unwrap() error { return e.Err }

// Change makes a change of the membership and returns when it has finished, with what is then, or
// says in a [ChangeError] why it has not and what stands. It may be asked on any node, and goes on
// when the leader changes. New members are learners first; once they are close behind the leader,
// all members that are added and removed change in one step. A leader that is removed hands over
// before. progress, unless nil, is called from this goroutine at every look at the state.
//
// With a Version the change is refused with ErrConflict when the membership is another one. What
// another change does meanwhile is taken into account, unless it contradicts: then it is
// ErrConflict as well.
func (g *Group) Change(ctx context.Context, c Change, progress func(ChangeProgress)) (Membership,
	error) {
	o := &operation{group: g, change: c, report: progress, seen: map[uint64]bool{},
		close: map[uint64]time.Time{}}
	err := c.check()
	if err == nil {
		err = o.run(ctx)
	}
	if err == nil {
		return o.now, nil
	}
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w, last: %w", context.Cause(ctx), err)
	}
	return o.now, &ChangeError{Phase: o.phase, Now: o.now, Members: o.behind, Done: o.standing(),
		Begun: o.begun, Err: err}
}

// check refuses what is wrong whatever the membership is.
func (c *Change) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrInvalidChange}, args...)...)
	}
	used := map[uint64]string{}
	for _, part := range c.parts() {
		for _, id := range part.ids {
			if id == 0 || id > 1<<63 {
				return bad("%s node %d: ids are 1 to 2^63", part.name, id)
			}
			if before := used[id]; before == "add" && part.name == "remove" {
				return bad("node %d cannot be replaced by itself: an id is never used again, so "+
					"give the new node another one", id)
			} else if before != "" {
				return bad("node %d appears twice: %s and %s", id, before, part.name)
			}
			used[id] = part.name
		}
	}
	if len(used) == 0 {
		return bad("it changes nothing")
	}
	for _, m := range slices.Concat(c.Add, c.Learn) {
		if m.Address == "" {
			return bad("node %d has no address", m.ID)
		}
	}
	return nil
}

type changePart struct {
	name string
	ids  []uint64
}

func (c *Change) parts() []changePart {
	return []changePart{{"add", idsOf(c.Add)}, {"learn", idsOf(c.Learn)}, {"promote", c.Promote},
		{"readdress", idsOf(c.Readdress)}, {"remove", c.Remove}}
}

// size is how many nodes the change names.
func (c *Change) size() (count int) {
	for _, part := range c.parts() {
		count += len(part.ids)
	}
	return count
}

func idsOf(list []Member) (ids []uint64) {
	for _, m := range list {
		ids = append(ids, m.ID)
	}
	return ids
}
