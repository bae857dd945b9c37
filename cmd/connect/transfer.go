package main

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/connectraft/connect/internal/admin"
)

func newTransfer() *cobra.Command {
	var group uint64
	command := &cobra.Command{Use: "transfer ID", Short: "Give the leadership of a group to a member",
		Args: cobra.ExactArgs(1),
		Long: `Give the leadership of a group to a member, and wait until it leads. It must have a vote
and be reachable; commands under way are not lost.

Exit codes: 0 it leads, 1 it does not, 2 wrong command line, 3 it is not known.`}
	command.Flags().Uint64Var(&group, "group", firstGroup, "the `id` of the group")
	return newAsk(command, quickLimit, func(ctx context.Context, c *cluster, args []string) error {
		list, err := parseIDs(args)
		if err != nil {
			return err
		}
		return c.transfer(ctx, group, list[0])
	})
}

// transfer asks until the member leads, or somebody says that it never will.
func (c *cluster) transfer(ctx context.Context, group, to uint64) error {
	r := &reaching{cluster: c, group: group}
	for {
		answers := c.survey(ctx, group)
		if leads(answers, group, to) {
			return c.done("group %d: member %d leads", group, to)
		}
		m := newest(answers, group)
		if m == nil {
			return noMembership(answers, group)
		}
		if _, votes := m.Find(to); !votes {
			return bad("group %d: member %d has no vote; the voters are %s", group, to, ids(voterIDs(m)))
		}
		err := c.call(ctx, http.MethodPost, leaderOf(answers, group), "/v1/transfer",
			&admin.Transfer{Group: group, To: to}, new(admin.Done))
		switch {
		case err == nil:
			return c.done("group %d: member %d leads", group, to)
		case !r.again(err):
			return bad("group %d: %w", group, err)
		}
		r.unknown = r.unknown || unknownOutcome(err)
		c.say("group %d: %v; trying again", group, err)
		if !pause(ctx) {
			return r.end(ctx, err)
		}
	}
}

// leads reports whether a member says that it leads the group, and serves.
func leads(answers []answer, group, id uint64) bool {
	for i := range answers {
		if g := answers[i].group(group); g != nil && answers[i].member.ID == id {
			return g.Role == "leader" && g.NotReady == ""
		}
	}
	return false
}

// leaderOf is the address of a node that runs the group, of the leader if there is one.
func leaderOf(answers []answer, group uint64) string {
	address := ""
	for i := range answers {
		if g := answers[i].group(group); g != nil && (address == "" || g.Role == "leader") {
			address = answers[i].member.Admin
		}
	}
	return address
}

// done prints that something has been done.
func (c *cluster) done(format string, args ...any) error {
	if c.json {
		return c.printJSON(admin.Done{Done: true})
	}
	c.printf(format+"\n", args...)
	return nil
}
