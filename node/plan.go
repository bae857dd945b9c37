package node

import (
	"fmt"
	"slices"
)

// step is what a change does next: one change of the configuration, one transfer, a wait, or
// nothing because it is complete.
type step struct {
	phase    Phase
	request  *controlRequest // nil = none
	wait     []uint64        // for these to catch up; with neither, for the end of a joint one
	complete bool
}

// plan finds the next step of a change from what is now. It is a function of the two alone, so a
// change goes on wherever another one, or an earlier attempt, has left it.
//
// seen are the ids that this change has found to be members; closeBehind says who has caught up.
func (c *Change) plan(now *Membership, leader uint64, seen map[uint64]bool,
	closeBehind func(uint64) bool) (step, error) {
	if err := c.contradicts(now, seen); err != nil {
		return step{}, err
	}
	if now.Joint {
		return step{phase: PhaseSwitching}, nil
	}
	if s, ok := c.planAddresses(now); ok {
		return s, nil
	}
	if s, ok := c.planLearners(now); ok {
		return s, nil
	}
	var promote, behind []uint64
	for _, id := range slices.Concat(idsOf(c.Add), c.Promote, idsOf(c.Learn)) {
		if !now.learns(id) {
			continue
		}
		if !contains(c.Learn, id) {
			promote = append(promote, id)
		}
		if !closeBehind(id) {
			behind = append(behind, id)
		}
	}
	if len(behind) > 0 {
		return step{phase: PhaseCatchingUp, wait: behind}, nil
	}
	remove := slices.DeleteFunc(slices.Clone(c.Remove), func(id uint64) bool { return !now.has(id) })
	return c.planSwitch(now, leader, promote, remove)
}

// contradicts says what in the membership makes the change impossible.
func (c *Change) contradicts(now *Membership, seen map[uint64]bool) error {
	for _, m := range slices.Concat(c.Add, c.Learn) {
		is, ok := now.Member(m.ID)
		switch {
		case !ok && seen[m.ID]:
			return fmt.Errorf("%w: another change has removed node %d meanwhile", ErrConflict, m.ID)
		case ok && is.Address != "" && is.Address != m.Address:
			return fmt.Errorf("%w: node %d is a member already, at %s: readdress it, or give the "+
				"new node another id", ErrInvalidChange, m.ID, is.Address)
		}
		for _, other := range now.all() {
			if other.ID != m.ID && other.Address == m.Address &&
				!slices.Contains(c.Remove, other.ID) {
				return fmt.Errorf("%w: node %d is at %s already", ErrInvalidChange, other.ID,
					m.Address)
			}
		}
	}
	for _, m := range c.Learn {
		if now.votes(m.ID) {
			return fmt.Errorf("%w: node %d is a voter; remove it instead", ErrInvalidChange, m.ID)
		}
	}
	for _, id := range slices.Concat(c.Promote, idsOf(c.Readdress)) {
		if !now.has(id) {
			return fmt.Errorf("%w: node %d is no member; add it first", ErrInvalidChange, id)
		}
	}
	for _, m := range now.Voters {
		if !slices.Contains(c.Remove, m.ID) {
			return nil
		}
	}
	if len(c.Add)+len(c.Promote) == 0 {
		return fmt.Errorf("%w: it leaves no voter", ErrInvalidChange)
	}
	return nil
}

// planAddresses puts into the directory what it does not say yet. That the leader has been told the
// same by its own options helps nobody else.
func (c *Change) planAddresses(now *Membership) (step, bool) {
	var members []Member
	for _, m := range c.Readdress {
		is, _ := now.Member(m.ID)
		news := m.Address != "" && slices.Contains(now.unplaced, m.ID)
		if to := is.at(m); to != is || news {
			members = append(members, to)
		}
	}
	if len(members) == 0 {
		return step{}, false
	}
	return step{phase: PhaseReaddressing, request: &controlRequest{Ask: askChange,
		Version: now.Version, Members: members,
		Steps: []memberStep{{members[0].ID, becomesKnown}}}}, true
}

// at returns the member at the addresses of to, as far as to has any.
func (m Member) at(to Member) Member {
	if to.Address != "" {
		m.Address = to.Address
	}
	if to.Client != "" {
		m.Client = to.Client
	}
	if to.Admin != "" {
		m.Admin = to.Admin
	}
	return m
}

func (c *Change) planLearners(now *Membership) (step, bool) {
	r := &controlRequest{Ask: askChange, Version: now.Version}
	for _, m := range slices.Concat(c.Add, c.Learn) {
		if now.has(m.ID) {
			continue
		}
		m.Incarnation = 0 // the leader registers what it finds
		r.Members = append(r.Members, m)
		r.Steps = append(r.Steps, memberStep{m.ID, becomesLearner})
	}
	return step{phase: PhaseAdding, request: r}, len(r.Steps) > 0
}

// planSwitch promotes and removes in one change. A leader that is removed hands over to a voter
// that stays; when none does, the new voters come first.
func (c *Change) planSwitch(now *Membership, leader uint64, promote, remove []uint64) (step,
	error) {
	if slices.Contains(remove, leader) {
		stays := slices.ContainsFunc(now.Voters, func(m Member) bool {
			return !slices.Contains(remove, m.ID)
		})
		if stays {
			return step{phase: PhaseTransferring, request: &controlRequest{Ask: askTransfer}}, nil
		}
		remove = nil
	}
	r := &controlRequest{Ask: askChange, Version: now.Version}
	for _, id := range promote {
		r.Steps = append(r.Steps, memberStep{id, becomesVoter})
	}
	for _, id := range remove {
		r.Steps = append(r.Steps, memberStep{id, becomesNothing})
	}
	if len(r.Steps) == 0 {
		return step{complete: true}, nil
	}
	return step{phase: PhaseSwitching, request: r}, nil
}
