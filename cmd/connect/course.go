package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/connectraft/connect/internal/admin"
)

// course is what a command does to all groups. The first group says which others there are, so a
// node joins it before any other and leaves it after all of them: first is for the first group,
// then rest for the others, then last for the first one again. nil is for nothing. Where only one
// group is changed, rest says how.
type course struct {
	first, rest, last plan
	// named are the members that some group must have at the end.
	named []uint64
}

// groupsAtOnce bounds the groups that are changed at the same time.
const groupsAtOnce = 32

// newChange makes a command that changes members. decide says how, from the arguments.
func newChange(command *cobra.Command,
	decide func(ctx context.Context, c *cluster, args []string) (course, error)) *cobra.Command {
	var group uint64
	command.Flags().Uint64Var(&group, "group", 0, "only the group of this `id`")
	return newAsk(command, changeLimit, func(ctx context.Context, c *cluster, args []string) error {
		way, err := decide(ctx, c, args)
		if err != nil {
			return err
		}
		groups := []uint64{group}
		if group == 0 {
			if groups, err = c.groups(ctx); err != nil {
				return err
			}
		}
		return c.follow(ctx, groups, way)
	})
}

// groups are all that run anywhere.
func (c *cluster) groups(ctx context.Context) ([]uint64, error) {
	var groups []uint64
	err := c.everyGroup(ctx, func(_ uint64, g *admin.Group) { groups = append(groups, g.Group) })
	if err != nil {
		return nil, err
	}
	slices.Sort(groups)
	if groups = slices.Compact(groups); len(groups) == 0 {
		return nil, bad("no group runs on any member that answers")
	}
	return groups, nil
}

// follow carries a course out and prints what the groups are like then.
func (c *cluster) follow(ctx context.Context, groups []uint64, way course) error {
	var touched atomic.Bool
	watch := func(p plan) plan {
		return func(m *admin.Membership) (admin.Change, error) {
			change, err := p(m)
			if !change.Empty() {
				touched.Store(true)
			}
			return change, err
		}
	}
	for _, p := range []*plan{&way.first, &way.rest, &way.last} {
		if *p != nil {
			*p = watch(*p)
		}
	}
	results, err := c.carryOut(ctx, groups, way)
	if err != nil {
		return err
	}
	for _, id := range way.named {
		if !slices.ContainsFunc(results, func(m *admin.Membership) bool { return isMember(m, id) }) {
			return bad("no group has the members that are named: see connect member list")
		}
	}
	if !touched.Load() {
		c.say("nothing to do: it is so already")
	}
	return c.printMemberships(results)
}

// carryOut changes the groups, which are in order of their ids.
func (c *cluster) carryOut(ctx context.Context, groups []uint64, way course) (
	[]*admin.Membership, error) {
	if groups[0] != firstGroup || len(groups) == 1 {
		return c.reachAll(ctx, groups, way.rest)
	}
	var first *admin.Membership
	var err error
	if way.first != nil {
		if first, err = c.reach(ctx, firstGroup, way.first); err != nil {
			return nil, err
		}
	}
	others, err := c.reachAll(ctx, groups[1:], way.rest)
	if err != nil {
		return nil, err
	}
	if way.last != nil {
		if first, err = c.reach(ctx, firstGroup, way.last); err != nil {
			return nil, err
		}
	}
	return append([]*admin.Membership{first}, others...), nil
}

// reachAll changes several groups, some at once, and returns their memberships in the same order.
// After an error it begins no other.
func (c *cluster) reachAll(ctx context.Context, groups []uint64, lacks plan) (
	[]*admin.Membership, error) {
	results := make([]*admin.Membership, len(groups))
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var workers sync.WaitGroup
	for range min(groupsAtOnce, len(groups)) {
		workers.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(groups) {
					return
				}
				var err error
				if results[i], err = c.reach(ctx, groups[i], lacks); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
			}
		})
	}
	workers.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return results, nil
}

// printMemberships prints the groups; of many, only the first.
func (c *cluster) printMemberships(results []*admin.Membership) error {
	if c.json {
		return printLines(c, results)
	}
	const shown = 8
	for i, m := range results {
		if i == shown {
			c.printf("and %d other groups\n", len(results)-shown)
			return nil
		}
		c.printf("group %d: voters %s", m.Group, ids(voterIDs(m)))
		if len(m.Learners) > 0 {
			c.printf(", learners %s", ids(idsOf(m.Learners)))
		}
		c.printf("\n")
	}
	return nil
}
