package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"github.com/connectraft/connect/internal/admin"
)

func newGroup() *cobra.Command {
	c := family("group", "Show, create and remove groups")
	c.AddCommand(newGroupList(), newGroupCreate(), newGroupRemove())
	return c
}

// groupRow is one group, as its leader sees it, or else the one that knows most.
type groupRow struct {
	Group    uint64   `json:"group"`
	Leader   uint64   `json:"leader"` // 0 = nobody says that it leads
	Term     uint64   `json:"term"`
	Commit   uint64   `json:"commit"`
	Voters   []uint64 `json:"voters"`
	Learners []uint64 `json:"learners"`
	Error    string   `json:"error,omitempty"` // of any node
}

func newGroupList() *cobra.Command {
	command := &cobra.Command{Use: "list", Short: "Print a line for each group", Args: cobra.NoArgs,
		Long: `Print a line for each group: who leads it, its term and commit index, its members, and what
is wrong with it on any node.

Exit codes: 0 every group has a leader and nothing is wrong, 1 not so, 2 wrong command line.`}
	return newAsk(command, quickLimit, func(ctx context.Context, c *cluster, _ []string) error {
		rows, err := c.groupRows(ctx)
		if err != nil {
			return err
		}
		if err := c.printGroups(rows); err != nil {
			return err
		}
		sick := 0
		for _, r := range rows {
			if r.Error != "" || r.Leader == 0 {
				sick++
			}
		}
		if sick > 0 {
			return bad("%d of %d groups are not healthy", sick, len(rows))
		}
		return nil
	})
}

// groupRows asks every member for its groups.
func (c *cluster) groupRows(ctx context.Context) ([]groupRow, error) {
	byID := make(map[uint64]*groupRow)
	err := c.everyGroup(ctx, func(on uint64, g *admin.Group) { addGroup(byID, g, on) })
	if err != nil {
		return nil, err
	}
	rows := []groupRow{}
	for _, r := range byID {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b groupRow) int { return cmp.Compare(a.Group, b.Group) })
	return rows, nil
}

func addGroup(byID map[uint64]*groupRow, g *admin.Group, on uint64) {
	r := byID[g.Group]
	if r == nil {
		r = &groupRow{Group: g.Group, Voters: []uint64{}, Learners: []uint64{}}
		byID[g.Group] = r
	}
	if len(g.Membership.Voters) == 0 && len(r.Voters) > 0 {
		return // it waits there
	}
	leads := g.Role == "leader"
	if leads && g.Term >= r.Term || r.Leader == 0 && g.Term >= r.Term {
		r.Term, r.Commit = g.Term, max(r.Commit, g.Commit)
		r.Voters, r.Learners = idsOf(g.Membership.Voters), idsOf(g.Membership.Learners)
		if leads {
			r.Leader = on
		}
	}
	if problem := g.Failed; problem != "" && r.Error == "" {
		r.Error = fmt.Sprintf("member %d: %s", on, problem)
	}
}

func (c *cluster) printGroups(rows []groupRow) error {
	if c.json {
		return printLines(c, rows)
	}
	t := newTable(c.OutOrStdout())
	t.line("GROUP", "LEADER", "TERM", "COMMIT", "VOTERS", "LEARNERS", "HEALTH")
	for _, r := range rows {
		health := "ok"
		switch {
		case r.Error != "":
			health = r.Error
		case r.Leader == 0:
			health = "no leader"
		}
		learners := ids(r.Learners)
		if learners == "" {
			learners = "-"
		}
		t.line(r.Group, number(r.Leader), r.Term, r.Commit, ids(r.Voters), learners, health)
	}
	return t.flush()
}

func newGroupCreate() *cobra.Command {
	command := &cobra.Command{Use: "create ID...", Args: cobra.MinimumNArgs(1),
		Short: "Create groups on all voters of the first group",
		Long: `Create groups. The voters of the first group are their voters. The ids are yours to choose;
an id that was removed does not return.`}
	return newAsk(command, quickLimit, func(ctx context.Context, c *cluster, args []string) error {
		return c.eachGroup(ctx, args, "created", func(address string, id uint64) error {
			return c.call(ctx, http.MethodPost, address, "/v1/groups", &admin.NewGroup{Group: id},
				new(admin.Done))
		})
	})
}

func newGroupRemove() *cobra.Command {
	command := &cobra.Command{Use: "remove ID...", Args: cobra.MinimumNArgs(1),
		Short: "Remove groups with everything that is in them",
		Long: `Remove groups with everything that is in them, on all nodes. Nothing brings them back, and
their ids do not return.`}
	return newAsk(command, quickLimit, func(ctx context.Context, c *cluster, args []string) error {
		return c.eachGroup(ctx, args, "removed", func(address string, id uint64) error {
			return c.call(ctx, http.MethodDelete, address, fmt.Sprintf("/v1/groups/%d", id), nil,
				new(admin.Done))
		})
	})
}

// eachGroup does something to each group that is named.
func (c *cluster) eachGroup(ctx context.Context, args []string, done string,
	do func(address string, id uint64) error) error {
	list, err := parseIDs(args)
	if err != nil {
		return err
	}
	for _, id := range list {
		if err := c.oneGroup(ctx, id, do); err != nil {
			return err
		}
		if err := c.done("group %d %s", id, done); err != nil {
			return err
		}
	}
	return nil
}

// oneGroup does something to a group, on whatever node answers, until it is done.
func (c *cluster) oneGroup(ctx context.Context, id uint64,
	do func(address string, id uint64) error) error {
	r := &reaching{cluster: c, group: id}
	for {
		answers := c.survey(ctx, firstGroup)
		address := leaderOf(answers, firstGroup)
		if address == "" {
			return noMembership(answers, firstGroup)
		}
		err := do(address, id)
		e, answered := errors.AsType[*admin.Error](err)
		switch {
		case err == nil:
			return nil
		case answered && e.Kind == admin.KindExists:
			c.say("group %d: nothing to do: it is so already", id)
			return nil
		case answered && e.Kind == admin.KindNotFound, !r.again(err):
			return bad("group %d: %w", id, err)
		}
		r.unknown = r.unknown || unknownOutcome(err)
		c.say("group %d: %v; trying again", id, err)
		if !pause(ctx) {
			return r.end(ctx, err)
		}
	}
}
