package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/connectraft/connect/internal/admin"
)

func newMember() *cobra.Command {
	c := family("member", "Show and change who the members are")
	c.Long = c.Short + `.

A member is named by its id. A node that is to become a member is named by its admin address: it
runs already, with join = true in its [[member]], and tells its id and its addresses itself.

Each command returns when everything is done: a new member first fetches what it lacks, then votes.
Given again, a command that was cut off goes on where it was. Without --group a command is for all
groups.`
	c.AddCommand(newMemberList(), newMemberAdd(), newMemberPromote(), newMemberRemove(),
		newMemberReplace(), newMemberReaddress())
	return c
}

func newMemberList() *cobra.Command {
	var group uint64
	command := &cobra.Command{Use: "list", Short: "Print the members of a group", Args: cobra.NoArgs}
	command.Flags().Uint64Var(&group, "group", firstGroup, "the `id` of the group")
	return newAsk(command, quickLimit, func(ctx context.Context, c *cluster, _ []string) error {
		answers := c.survey(ctx, group)
		m := newest(answers, group)
		if m == nil {
			return noMembership(answers, group)
		}
		if c.json {
			return c.printJSON(m)
		}
		t := newTable(c.OutOrStdout())
		t.line("ID", "ROLE", "PEER", "CLIENT", "ADMIN")
		for _, v := range m.Voters {
			t.line(v.ID, "voter", v.Peer, v.Client, v.Admin)
		}
		for _, l := range m.Learners {
			t.line(l.ID, "learner", l.Peer, l.Client, l.Admin)
		}
		return t.flush()
	})
}

// noMembership says why nobody tells who the members are.
func noMembership(answers []answer, group uint64) error {
	for _, a := range answers {
		if a.err == nil {
			return bad("group %d runs on no member that answers; see connect group list", group)
		}
	}
	return noAnswer(answers)
}

func newMemberAdd() *cobra.Command {
	var learner bool
	command := &cobra.Command{Use: "add HOST:PORT...", Args: cobra.MinimumNArgs(1),
		Short: "Make nodes members, all at once",
		Long: `Make the nodes at these admin addresses members. They get what they lack, and become voters
together, in one step.`}
	command.Flags().BoolVar(&learner, "learner", false,
		"they follow and answer reads, but have no vote; see promote")
	return newChange(command, func(ctx context.Context, c *cluster, args []string) (course, error) {
		nodes, err := c.newcomers(ctx, args)
		add := addPlan(nodes, learner)
		return course{first: add, rest: add}, err
	})
}

func newMemberPromote() *cobra.Command {
	command := &cobra.Command{Use: "promote ID...", Args: cobra.MinimumNArgs(1),
		Short: "Give learners a vote, when they have caught up"}
	return newChange(command, func(_ context.Context, _ *cluster, args []string) (course, error) {
		list, err := parseIDs(args)
		promote := promotePlan(list)
		return course{first: promote, rest: promote, named: list}, err
	})
}

func newMemberRemove() *cobra.Command {
	command := &cobra.Command{Use: "remove ID...", Args: cobra.MinimumNArgs(1),
		Short: "Take members out, all at once",
		Long: `Take members out, all at once. A leader hands over first. A node that was removed serves
nobody any more and can be stopped; its id is never used again.`}
	return newChange(command, func(_ context.Context, _ *cluster, args []string) (course, error) {
		list, err := parseIDs(args)
		remove := removePlan(list)
		return course{rest: remove, last: remove}, err
	})
}

func newMemberReplace() *cobra.Command {
	command := &cobra.Command{Use: "replace OLD=HOST:PORT...", Args: cobra.MinimumNArgs(1),
		Short: "Put new nodes in the place of members, all at once",
		Long: `Put the node at an admin address in the place of member OLD, which may be dead. The new
node gets what it lacks; then, in one step, it becomes a voter and OLD is removed. The new node
has an id of its own, which no member had before.`}
	return newChange(command, func(ctx context.Context, c *cluster, args []string) (course, error) {
		old, addresses, err := parsePairs(args)
		if err != nil {
			return course{}, err
		}
		nodes, err := c.newcomers(ctx, addresses)
		for i, n := range nodes {
			if n.ID == old[i] {
				return course{}, bad("the node at %s says that it is member %d itself: stop it, give its "+
					"[[member]] an id that was never used, and join = true, and start it with an empty "+
					"directory", addresses[i], n.ID)
			}
		}
		return course{first: substitutePlan(old, nodes), rest: replacePlan(old, nodes),
			last: replacePlan(old, nodes), named: idsOf(nodes)}, err
	})
}

func newMemberReaddress() *cobra.Command {
	command := &cobra.Command{Use: "readdress HOST:PORT...", Args: cobra.MinimumNArgs(1),
		Short: "Tell the others the new addresses of members",
		Long: `Tell the others the addresses of the members at these admin addresses. Each runs already,
on its old data directory and with its new addresses, and tells its id and addresses itself.`}
	return newChange(command, func(ctx context.Context, c *cluster, args []string) (course, error) {
		nodes, err := c.movers(ctx, args)
		move := readdressPlan(nodes)
		return course{first: move, rest: move, named: idsOf(nodes)}, err
	})
}

func parseIDs(args []string) ([]uint64, error) {
	var list []uint64
	for _, arg := range args {
		id, err := strconv.ParseUint(arg, 10, 63)
		if err != nil || id == 0 {
			return nil, fmt.Errorf("%q: want the id of a member, a number of 1 or more", arg)
		}
		list = append(list, id)
	}
	return list, nil
}

func parsePairs(args []string) (old []uint64, addresses []string, err error) {
	for _, arg := range args {
		id, address, ok := strings.Cut(arg, "=")
		list, err := parseIDs([]string{id})
		if err != nil || !ok || checkAddress(address) != nil {
			return nil, nil, fmt.Errorf("%q: want the id of a member and the admin address of the node "+
				"in its place, such as 3=127.0.0.1:7204", arg)
		}
		old, addresses = append(old, list...), append(addresses, address)
	}
	return old, addresses, nil
}

// nodesAt asks nodes for their ids and addresses, and waits for those that do not answer yet.
func (c *cluster) nodesAt(ctx context.Context, addresses []string,
	fit func(s *admin.Status) error) ([]admin.Member, error) {
	for _, address := range addresses {
		if err := checkAddress(address); err != nil {
			return nil, err
		}
	}
	var nodes []admin.Member
	for _, address := range addresses {
		s, err := c.await(ctx, address, fit)
		if err != nil {
			return nil, bad("the node at %s: %w", address, err)
		}
		self := s.Self
		if dialable(self.Admin, self.Peer) != self.Admin {
			self.Admin = address // it listens on every address, and this is one of them
		}
		nodes = append(nodes, self)
	}
	return nodes, nil
}

// await asks a node until it answers and fits.
func (c *cluster) await(ctx context.Context, address string, fit func(s *admin.Status) error) (
	*admin.Status, error) {
	for {
		s, err := c.ask(ctx, admin.Member{Admin: address}, firstGroup)
		if err == nil {
			if s.State == admin.StateRefused || s.State == admin.StateRemoved {
				return nil, errors.New(s.NotReady)
			}
			if err = fit(s); err == nil {
				return s, nil
			}
		}
		if _, stranger := errors.AsType[*strangerError](err); stranger {
			return nil, err
		}
		c.say("waiting for the node at %s: %v", address, err)
		if !pause(ctx) {
			return nil, fmt.Errorf("%w; start it, with join = true in its [[member]]", err)
		}
	}
}

// newcomers are nodes that wait to be added, or are members already.
func (c *cluster) newcomers(ctx context.Context, addresses []string) ([]admin.Member, error) {
	membership := newest(c.survey(ctx, firstGroup), firstGroup)
	return c.nodesAt(ctx, addresses, func(s *admin.Status) error {
		if s.State == admin.StateWaiting || membership != nil && isMember(membership, s.Self.ID) {
			return nil
		}
		return fmt.Errorf("it does not wait to be added: %s", cmp.Or(s.NotReady, "it serves"))
	})
}

// movers are members, which may have new addresses.
func (c *cluster) movers(ctx context.Context, addresses []string) ([]admin.Member, error) {
	c.survey(ctx, firstGroup) // for the cluster's id, and for whom else to ask
	return c.nodesAt(ctx, addresses, func(*admin.Status) error { return nil })
}
