package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/connectraft/connect/internal/admin"
)

// plan says what a membership still lacks; an empty change says nothing. An error says that it can
// never be reached from there.
type plan func(m *admin.Membership) (admin.Change, error)

// reach changes a group until nothing is lacking. What is there already is not done again, so a
// command that was cut off goes on where it was when it is given again; and it survives the death
// of the node that it asks, and changes of the leader.
func (c *cluster) reach(ctx context.Context, group uint64, lacks plan) (*admin.Membership, error) {
	r := &reaching{cluster: c, group: group, lacks: lacks}
	for {
		membership, err := r.step(ctx)
		switch {
		case err == nil && membership != nil:
			return membership, nil
		case err != nil && !r.again(err):
			return nil, &exitError{exitBad, fmt.Errorf("group %d: %w", group, err)}
		case err != nil:
			c.say("group %d: %v; trying again", group, err)
		}
		if !pause(ctx) {
			return nil, r.end(ctx, err)
		}
	}
}

// reaching is one call of reach.
type reaching struct {
	*cluster
	group   uint64
	lacks   plan
	unknown bool   // a change was sent, and its end was not learned
	avoid   string // the address that failed last
}

// step looks at the membership and asks for what it lacks. It returns the membership when that is
// nothing, and neither that nor an error when something has been done.
func (r *reaching) step(ctx context.Context) (*admin.Membership, error) {
	membership, holders, err := r.membership(ctx, r.group)
	if err != nil {
		return nil, err
	}
	change, err := r.lacks(membership)
	if err != nil {
		return nil, &planError{err}
	}
	if change.Empty() && membership.Joint {
		return nil, errors.New("a change is between its two halves")
	}
	if change.Empty() {
		return membership, nil
	}
	change.Group = r.group
	address := r.choose(holders, membership, change.Remove)
	after, err := r.change(ctx, address, change)
	if err != nil {
		r.unknown, r.avoid = r.unknown || unknownOutcome(err), address
		return nil, err
	}
	r.unknown, r.avoid = false, ""
	if change, err := r.lacks(after); err == nil && change.Empty() {
		return after, nil
	}
	return nil, nil
}

// planError says that what is wanted can never be.
type planError struct{ error }

// again reports whether an error is one that passes.
func (r *reaching) again(err error) bool {
	if _, never := errors.AsType[*planError](err); never {
		return false
	}
	e, answered := errors.AsType[*admin.Error](err)
	if !answered {
		return true
	}
	switch e.Kind {
	case admin.KindInvalid, admin.KindForbidden, admin.KindNoQuorum:
		return false
	}
	return true
}

// end is the error when the time is over.
func (r *reaching) end(ctx context.Context, last error) error {
	reason := why(ctx)
	if last != nil {
		reason += "; at last: " + last.Error()
	}
	if r.unknown {
		return &exitError{exitUnknown, fmt.Errorf("group %d: outcome unknown, the change may go on or "+
			"may stand half-way: %s\ngive the same command again: it goes on where it stands", r.group,
			reason)}
	}
	return bad("group %d: not done: %s\ngive the same command again: it goes on where it stands",
		r.group, reason)
}

// choose prefers a member, one that stays and has not just failed.
func (r *reaching) choose(holders []string, m *admin.Membership, leave []uint64) string {
	members := slices.Concat(m.Voters, m.Learners)
	weight := func(address string) int {
		w := 0
		if address == r.avoid {
			w += 2
		}
		i := slices.IndexFunc(members, func(member admin.Member) bool {
			return dialable(member.Admin, member.Peer) == address
		})
		if i < 0 || slices.Contains(leave, members[i].ID) {
			w++
		}
		return w
	}
	return slices.MinFunc(holders, func(a, b string) int { return weight(a) - weight(b) })
}

// membership asks everybody, and returns the newest answer with the addresses of those that run the
// group.
func (c *cluster) membership(ctx context.Context, group uint64) (*admin.Membership, []string,
	error) {
	answers := make([]*admin.Membership, len(c.asked))
	errs := make([]error, len(c.asked))
	var asking sync.WaitGroup
	for i, m := range c.asked {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			answer := new(admin.Membership)
			path := fmt.Sprintf("/v1/members?group=%d", group)
			if errs[i] = c.call(ctx, http.MethodGet, m.Admin, path, nil, answer); errs[i] == nil {
				answers[i] = answer
			}
		})
	}
	asking.Wait()
	var best *admin.Membership
	var holders []string
	for i, m := range answers {
		if m == nil || len(m.Voters) == 0 {
			continue
		}
		holders = append(holders, c.asked[i].Admin)
		if best == nil || m.Version > best.Version {
			best = m
		}
	}
	if best == nil && !slices.ContainsFunc(errs, func(err error) bool { return !isNotFound(err) }) {
		return nil, nil, &planError{errors.New("it runs on no member; see connect group list")}
	}
	if best == nil {
		return nil, nil, fmt.Errorf("no member tells who the members are: %w", errors.Join(errs...))
	}
	return best, holders, nil
}

// isNotFound reports whether a member has answered that the group does not run there.
func isNotFound(err error) bool {
	e, ok := errors.AsType[*admin.Error](err)
	return ok && e.Kind == admin.KindNotFound
}

// change asks a node for a change and follows it to its end.
func (c *cluster) change(ctx context.Context, address string, change admin.Change) (
	*admin.Membership, error) {
	var last admin.Line
	err := c.stream(ctx, http.MethodPost, address, "/v1/members", &change, func(data []byte) error {
		last = admin.Line{}
		if err := json.Unmarshal(data, &last); err != nil {
			return &wayError{address: address, err: errors.New("answered a line that is no JSON"),
				sent: true}
		}
		if last.Progress != nil {
			c.tell(change.Group, last.Progress)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case last.Error != nil:
		return nil, last.Error
	case last.Membership == nil:
		return nil, &wayError{address: address, sent: true,
			err: errors.New("the answer ended before the change did")}
	}
	return last.Membership, nil
}

func progressText(p *admin.Progress) string {
	var b strings.Builder
	b.WriteString(p.Step)
	for i, m := range p.Members {
		b.WriteString([]string{": ", ", "}[min(i, 1)])
		switch {
		case !m.Connected:
			fmt.Fprintf(&b, "member %d is not connected", m.ID)
		case m.Snapshot != 0:
			fmt.Fprintf(&b, "member %d is being sent the snapshot at %d", m.ID, m.Snapshot)
		case m.Entries == 0:
			fmt.Fprintf(&b, "member %d has everything", m.ID)
		default:
			fmt.Fprintf(&b, "member %d lacks %d entries (%s)", m.ID, m.Entries, bytesText(m.Bytes))
		}
	}
	return b.String()
}
