package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/connectraft/connect/internal/admin"
)

// answer is what a member says of itself, or why it says nothing.
type answer struct {
	member admin.Member // as the others or the file have it; ID is 0 if nobody names it
	status *admin.Status
	err    error
}

// group is the group that was asked for, nil when it does not run there.
func (a *answer) group(id uint64) *admin.Group {
	if a.status == nil {
		return nil
	}
	i := slices.IndexFunc(a.status.Groups, func(g admin.Group) bool { return g.Group == id })
	if i < 0 {
		return nil
	}
	return &a.status.Groups[i]
}

// isOut reports whether it is from a node that is no member of any group any more.
func (a *answer) isOut() bool {
	return a.status != nil && (a.status.State == admin.StateRefused ||
		a.status.State == admin.StateRemoved && a.status.Summary.Groups == 0)
}

// survey asks every member that it knows or learns of for its status with one group.
func (c *cluster) survey(ctx context.Context, group uint64) []answer {
	var answers []answer
	for len(answers) < len(c.asked) {
		news := make([]answer, len(c.asked)-len(answers))
		var asking sync.WaitGroup
		for i := range news {
			news[i].member = c.asked[len(answers)+i]
			asking.Go(func() { news[i].status, news[i].err = c.ask(ctx, news[i].member, group) })
		}
		asking.Wait()
		answers = append(answers, news...)
		for i := range news {
			if g := news[i].group(group); g != nil {
				c.learn(&g.Membership)
			}
			if s := news[i].status; s != nil && c.id == "" {
				c.id = s.Cluster
			}
		}
	}
	return oneForEach(answers)
}

// everyGroup calls do with every group that a member runs, once for each member. A node that is out
// of the cluster is not asked: it does not learn which groups were removed since.
func (c *cluster) everyGroup(ctx context.Context, do func(on uint64, g *admin.Group)) error {
	answers := c.survey(ctx, firstGroup)
	heard := false
	for _, a := range answers {
		if a.err != nil || a.isOut() {
			continue
		}
		var list admin.Groups
		if err := c.call(ctx, http.MethodGet, a.member.Admin, "/v1/groups", nil, &list); err != nil {
			return bad("%w", err)
		}
		heard = true
		for i := range list.Groups {
			do(a.member.ID, &list.Groups[i])
		}
	}
	if !heard {
		return noAnswer(answers)
	}
	return nil
}

// ask asks one member for its status.
func (c *cluster) ask(ctx context.Context, m admin.Member, group uint64) (*admin.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s := new(admin.Status)
	path := fmt.Sprintf("/v1/status?group=%d", group)
	if err := c.call(ctx, http.MethodGet, m.Admin, path, nil, s); err != nil {
		if e, ok := errors.AsType[*wayError](err); ok {
			err = e.err
		}
		return nil, err
	}
	switch {
	case s.Self.ID == 0:
		return nil, errors.New("answered something that is no status")
	case m.ID != 0 && s.Self.ID != m.ID:
		return nil, &strangerError{fmt.Sprintf("answered as member %d", s.Self.ID)}
	case c.id != "" && s.Cluster != c.id:
		return nil, &strangerError{fmt.Sprintf("answered for the cluster %q, not %q", s.Cluster, c.id)}
	}
	return s, nil
}

// strangerError says that somebody else is at an address.
type strangerError struct{ text string }

func (e *strangerError) Error() string { return e.text }

// oneForEach leaves one answer for each member, one that has a status if there is any.
func oneForEach(answers []answer) []answer {
	var list []answer
	seen := make(map[uint64]int)
	for _, a := range answers {
		if a.status != nil {
			a.member.ID = a.status.Self.ID
		}
		at, twice := seen[a.member.ID]
		switch {
		case a.member.ID == 0:
			list = append(list, a)
		case !twice:
			seen[a.member.ID] = len(list)
			list = append(list, a)
		case list[at].status == nil && a.status != nil:
			list[at] = a
		}
	}
	return list
}

// newest is the membership of a group with the highest version, nil when nobody has one.
func newest(answers []answer, group uint64) *admin.Membership {
	var membership *admin.Membership
	for i := range answers {
		g := answers[i].group(group)
		if g != nil && len(g.Membership.Voters) > 0 &&
			(membership == nil || g.Membership.Version > membership.Version) {
			membership = &g.Membership
		}
	}
	return membership
}

// noAnswer says that nobody can be asked.
func noAnswer(answers []answer) error {
	var errs []error
	for _, a := range answers {
		err := a.err
		if err == nil {
			err = errors.New(a.status.NotReady)
		}
		errs = append(errs, fmt.Errorf("%s: %w", a.member.Admin, err))
	}
	return bad("no member answers; name one that runs with --admin HOST:PORT\n%w",
		errors.Join(errs...))
}
