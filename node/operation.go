package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// closeEntries and closeBytes are how far behind the leader a learner may be to become a voter.
	closeEntries = 1000
	closeBytes   = 4 << 20
	// transfersMax is how many voters a leader that is removed is asked to hand over to.
	transfersMax = 8
)

// operation is a Change under way. It belongs to the goroutine of its caller, asks the leader for
// one step after the other, and decides each on what the leader says the membership is: so a step
// that was lost with a leader is found done, or is done again.
type operation struct {
	group  *Group
	change Change
	report func(ChangeProgress)

	phase     Phase
	now       Membership       // as the leader said last
	since     uint64           // the oldest version with the same members
	leader    uint64           // who said it
	positions []memberPosition // with it
	behind    []MemberProgress // of those that are waited for
	begun     bool             // a step was asked for: the version is not the caller's any more
	seen      map[uint64]bool  // ids of the change that were members
	close     map[uint64]time.Time
	transfers int
	silent    time.Time // since when the leader that is removed has nobody to hand over to
}

func (o *operation) run(ctx context.Context) error {
	for {
		if err := o.look(ctx); err != nil {
			if errors.Is(err, ErrRemoved) && o.leftBehind() {
				return nil
			}
			return err
		}
		if v := o.change.Version; v != 0 && !o.begun && (v < o.since || v > o.now.Version) {
			return fmt.Errorf("%w: it is at version %d (%s); look at it again and decide anew",
				ErrConflict, o.now.Version, o.now.String())
		}
		s, err := o.change.plan(&o.now, o.leader, o.seen, o.closeBehind)
		if err != nil || s.complete {
			return err
		}
		o.tell(s)
		if s.request != nil {
			if err = o.step(ctx, s); err == nil {
				continue
			}
		}
		if err != nil && !o.goesOn(err) {
			return err
		}
		waitErr := o.pause(ctx)
		if errors.Is(waitErr, ErrRemoved) && o.leftBehind() {
			return nil
		}
		if waitErr != nil {
			return errors.Join(waitErr, err)
		}
	}
}

// leftBehind reports whether the change has removed this very node and is complete: nobody answers
// it any more, but it has seen how things are, or one of the others has told it. Of a change that
// began when the node was gone already it knows nothing but that: what became of the others since
// then it has not seen.
func (o *operation) leftBehind() bool {
	if !slices.Contains(o.change.Remove, o.group.node.options.ID) {
		return false
	}
	if o.now.Version == 0 && o.change.size() > 1 {
		return false
	}
	now := o.group.Membership()
	if gone := o.group.members.gone.Load(); gone != nil && gone.now != nil {
		now = *gone.now
	}
	if now.Version < o.now.Version {
		return false
	}
	o.now = now
	s, err := o.change.plan(&o.now, 0, o.seen, func(uint64) bool { return true })
	return err == nil && s.complete
}

// look asks the leader how things are, until there is one.
func (o *operation) look(ctx context.Context) error {
	for {
		a, leader, err := o.group.askLeader(ctx, controlRequest{Ask: askLook})
		if err == nil && a.Leads {
			o.now, o.since, o.leader, o.positions = *a.Now, a.Since, leader, a.Members
			o.now.unplaced = a.Unplaced
			o.notice()
			return nil
		}
		if err != nil && !o.goesOn(err) {
			return err
		}
		if waitErr := o.pause(ctx); waitErr != nil {
			return errors.Join(waitErr, err)
		}
	}
}

// notice remembers who is a member, and since when those who catch up are close.
func (o *operation) notice() {
	for _, m := range o.now.all() {
		o.seen[m.ID] = true
	}
	for _, p := range o.positions {
		near := p.Entries <= closeEntries && p.Bytes <= closeBytes && p.Connected && p.Replicating
		if !near {
			delete(o.close, p.ID)
		} else if o.close[p.ID].IsZero() {
			o.close[p.ID] = time.Now()
		}
	}
}

// closeBehind reports whether a member has been close behind the leader for half an election
// timeout.
func (o *operation) closeBehind(id uint64) bool {
	since, ok := o.close[id]
	return ok && time.Since(since) >= o.group.node.electionTimeout()/2
}

// tell reports the step that comes.
func (o *operation) tell(s step) {
	o.phase, o.behind = s.phase, nil
	for _, id := range s.wait {
		m := MemberProgress{ID: id}
		for _, p := range o.positions {
			if p.ID == id {
				m = MemberProgress{ID: id, Connected: p.Connected, Entries: p.Entries,
					Bytes: p.Bytes, Snapshot: p.Snapshot}
			}
		}
		o.behind = append(o.behind, m)
	}
	if o.report != nil {
		o.report(ChangeProgress{Phase: o.phase, Members: o.behind, Now: o.now})
	}
}

// step has the leader do one step.
func (o *operation) step(ctx context.Context, s step) error {
	r := *s.request
	if r.Ask == askTransfer {
		return o.transfer(ctx)
	}
	_, err := o.group.node.control.ask(ctx, o.group, o.leader, r)
	if errors.Is(err, ErrConflict) || errors.Is(err, errTransferFirst) {
		return errChanged
	}
	// Whatever else came of it: what the membership is now may be this change's own doing.
	o.begun = true
	return err
}

// errChanged: the membership is not what the step was decided on; the next one is decided anew.
var errChanged = errors.New("node: the membership has changed meanwhile")

// transfer has the leader, which is to be removed, hand over to the voter that stays and is closest
// behind.
func (o *operation) transfer(ctx context.Context) error {
	o.begun = true
	stays := slices.DeleteFunc(slices.Clone(o.positions), func(p memberPosition) bool {
		return !p.Connected || !o.now.votes(p.ID) || slices.Contains(o.change.Remove, p.ID)
	})
	if len(stays) > 0 {
		o.silent = time.Time{}
	} else if o.silent.IsZero() {
		o.silent = time.Now()
	}
	if len(stays) == 0 && time.Since(o.silent) < o.group.node.electionTimeout() {
		return errChanged // connections may come back
	}
	if len(stays) == 0 {
		return fmt.Errorf("%w: no voter that stays answers the leader, node %d, which is to be "+
			"removed", ErrNoQuorum, o.leader)
	}
	if o.transfers++; o.transfers > transfersMax {
		return fmt.Errorf("%w: from node %d, which is to be removed: remove the others first, or "+
			"transfer by hand: connect transfer", ErrTransferFailed, o.leader)
	}
	slices.SortFunc(stays, func(a, b memberPosition) int { return compareIDs(b.Match, a.Match) })
	to := stays[(o.transfers-1)%len(stays)].ID
	_, err := o.group.node.control.ask(ctx, o.group, o.leader,
		controlRequest{Ask: askTransfer, To: to})
	if err == nil || errors.Is(err, ErrTransferFailed) || errors.Is(err, ErrInvalidChange) {
		return errChanged // the next look says who leads
	}
	return err
}

// goesOn reports whether an error passes by itself, or by asking another node.
func (o *operation) goesOn(err error) bool {
	for _, passes := range []error{errChanged, errNotLeader, errBusy, errNoGroup, ErrChangePending,
		ErrUnknown, ErrNoLeader, ErrGroupFailed} {
		if errors.Is(err, passes) {
			return true
		}
	}
	return errors.Is(err, ErrClosed) && !o.group.node.closing.Load()
}

// pause waits a moment, and says why there is no point in waiting any longer.
func (o *operation) pause(ctx context.Context) error {
	g := o.group
	timer := time.NewTimer(g.node.options.Tick)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-g.node.stopping:
		return ErrClosed
	case <-g.node.done:
		return g.node.err
	}
	if reason := g.failed.Load(); reason != nil {
		return fmt.Errorf("%w: %s", ErrGroupFailed, *reason)
	}
	return g.absence()
}

// standing says what has become of each part of the change.
func (o *operation) standing() string {
	if o.now.Version == 0 {
		return ""
	}
	var parts []string
	for _, part := range o.change.parts() {
		for _, id := range part.ids {
			parts = append(parts, fmt.Sprintf("node %d is %s", id, o.now.part(id)))
		}
	}
	return fmt.Sprintf("%s (version %d)", strings.Join(parts, ", "), o.now.Version)
}

// part names what a node is.
func (m *Membership) part(id uint64) string {
	switch {
	case m.votes(id):
		return "a voter"
	case m.learns(id):
		return "a learner"
	case m.has(id):
		return "a voter that is leaving"
	}
	return "no member"
}
