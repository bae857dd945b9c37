package main

import (
	"context"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"github.com/connectraft/connect/internal/admin"
)

func newDrain() *cobra.Command {
	command := &cobra.Command{Use: "drain ID", Short: "Take every leadership from a member",
		Args: cobra.ExactArgs(1),
		Long: `Hand over every leadership of a member, and wait until it leads nothing: then it can be
stopped without a pause for anybody. It goes on as a follower, and may be elected again later. A
node that is stopped with SIGTERM does this by itself.

Exit codes: 0 it leads no group, 1 it still leads one, 2 wrong command line, 3 it is not known.`}
	return newAsk(command, quickLimit, func(ctx context.Context, c *cluster, args []string) error {
		list, err := parseIDs(args)
		if err != nil {
			return err
		}
		id, answers := list[0], c.survey(ctx, firstGroup)
		i := slices.IndexFunc(answers, func(a answer) bool { return a.member.ID == id })
		switch {
		case i < 0:
			return bad("there is no member %d; see connect member list", id)
		case answers[i].err != nil:
			return bad("member %d at %s: %w", id, answers[i].member.Admin, answers[i].err)
		}
		c.say("member %d hands over %d of %d groups", id, answers[i].status.Summary.Leading,
			answers[i].status.Summary.Groups)
		err = c.call(ctx, http.MethodPost, answers[i].member.Admin, "/v1/drain", &admin.Drain{},
			new(admin.Done))
		switch {
		case err == nil:
			return c.done("member %d leads no group", id)
		case unknownOutcome(err):
			return &exitError{exitUnknown, err}
		}
		return bad("member %d: %w", id, err)
	})
}
