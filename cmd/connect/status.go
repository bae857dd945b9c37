package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/connectraft/connect/internal/admin"
)

// row is what a member says of itself, one line of the output.
type row struct {
	ID    uint64 `json:"id"` // 0 if the member does not answer and nobody names it
	Admin string `json:"admin"`
	// Role in the group; where the group does not run, the state of the node: waiting, refused,
	// removed, or unreachable.
	Role          string `json:"role"`
	Term          uint64 `json:"term"`
	Leader        uint64 `json:"leader"`
	Commit        uint64 `json:"commit"`
	Applied       uint64 `json:"applied"`
	Lag           uint64 `json:"lag"` // committed anywhere, and not applied here
	LogBytes      int64  `json:"log_bytes"`
	SnapshotIndex uint64 `json:"snapshot_index"`
	SnapshotBytes int64  `json:"snapshot_bytes"`
	// Healthy says that the member serves this group and every other; Error is why it does not.
	Healthy bool          `json:"healthy"`
	Error   string        `json:"error,omitempty"`
	Groups  admin.Summary `json:"groups"`
	member  bool          // counts for the health of the cluster
	serves  bool          // leads the group, whatever is wrong with others
}

const roleUnreachable = "unreachable"

func newStatus() *cobra.Command {
	var group uint64
	var wait bool
	command := &cobra.Command{Use: "status", Short: "Print a line for each member of a cluster",
		Args: cobra.NoArgs,
		Long: `Print a line for each member of a cluster: id, role, term, the leader it knows, committed
and applied index, what it lacks, the sizes of its log and of its newest snapshot, and its health.
One member that answers is enough to find the others.

Exit codes: 0 every member is healthy and a leader serves; 1 not so; 2 wrong command line or cluster
file. With --wait it waits until it is so, at most for --timeout.`}
	f := command.Flags()
	f.Uint64Var(&group, "group", firstGroup, "the `id` of the group to show")
	f.BoolVar(&wait, "wait", false, "wait until the cluster is healthy")
	return newAsk(command, quickLimit, func(ctx context.Context, c *cluster, _ []string) error {
		rows := rowsOf(c.survey(ctx, group), group)
		for wait && verdictOf(rows) != nil {
			c.say("waiting: %v", verdictOf(rows))
			if !pause(ctx) {
				break
			}
			if again := rowsOf(c.survey(ctx, group), group); ctx.Err() == nil {
				rows = again
			}
		}
		if err := c.printRows(rows); err != nil {
			return err
		}
		return verdictOf(rows)
	})
}

// rowsOf makes the lines, by id.
func rowsOf(answers []answer, group uint64) []row {
	membership := newest(answers, group)
	var commit uint64
	for i := range answers {
		if g := answers[i].group(group); g != nil {
			commit = max(commit, g.Commit)
		}
	}
	var rows []row
	for i := range answers {
		r := rowOf(&answers[i], group, commit)
		r.member = membership == nil || isMember(membership, r.ID)
		if r.member || answers[i].status != nil || r.ID == 0 {
			rows = append(rows, r)
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.ID-1, b.ID-1) })
	return rows
}

func isMember(membership *admin.Membership, id uint64) bool {
	m, _ := membership.Find(id)
	return m != nil
}

func rowOf(a *answer, group, commit uint64) row {
	r := row{ID: a.member.ID, Admin: a.member.Admin}
	if a.err != nil {
		r.Role, r.Error = roleUnreachable, a.err.Error()
		return r
	}
	s := a.status
	r.Groups, r.Role, r.Error = s.Summary, s.State, s.NotReady
	if g := a.group(group); g != nil {
		r.Term, r.Leader, r.Commit, r.Applied = g.Term, g.Leader, g.Commit, g.Applied
		r.Lag = commit - min(g.Applied, commit)
		r.LogBytes, r.SnapshotIndex, r.SnapshotBytes = g.LogBytes, g.SnapshotIndex, g.SnapshotBytes
		if s.State == admin.StateServing || s.State == admin.StateNotReady {
			r.Role = g.Role
		}
		r.Error = cmp.Or(g.Failed, g.NotReady, s.NotReady)
		r.serves = r.Role == "leader" && r.Error == ""
	} else if s.State == admin.StateServing {
		r.Role, r.Error = "-", fmt.Sprintf("group %d does not run here", group)
	}
	if n := s.Summary.NotReady; n > 0 && r.Error == "" {
		r.Error = fmt.Sprintf("%d of %d groups do not serve here", n, s.Summary.Groups)
	}
	r.Healthy = r.Error == "" && s.State == admin.StateServing
	return r
}

// verdictOf is the error for the exit code.
func verdictOf(rows []row) error {
	var sick, all int
	serves := false
	for _, r := range rows {
		serves = serves || r.serves
		if r.member {
			all++
			if !r.Healthy {
				sick++
			}
		}
	}
	switch {
	case serves && sick == 0:
		return nil
	case serves:
		return bad("a leader serves, but %d of %d members are not healthy", sick, all)
	}
	return bad("no leader serves; %d of %d members are not healthy", sick, all)
}

func (c *cluster) printRows(rows []row) error {
	if c.json {
		return printLines(c, rows)
	}
	t := newTable(c.OutOrStdout())
	t.line("ID", "ROLE", "TERM", "LEADER", "COMMIT", "APPLIED", "LAG", "LOG", "SNAPSHOT", "ADMIN",
		"HEALTH")
	for _, r := range rows {
		health := cmp.Or(r.Error, "ok")
		if r.Term == 0 {
			t.line(number(r.ID), r.Role, "-", "-", "-", "-", "-", "-", "-", r.Admin, health)
			continue
		}
		t.line(number(r.ID), r.Role, r.Term, number(r.Leader), r.Commit, r.Applied, r.Lag,
			bytesText(r.LogBytes), snapshotText(r), r.Admin, health)
	}
	return t.flush()
}

// snapshotText is the size of the newest snapshot and the index it reaches.
func snapshotText(r row) string {
	if r.SnapshotIndex == 0 {
		return "-"
	}
	return fmt.Sprintf("%s at %d", bytesText(r.SnapshotBytes), r.SnapshotIndex)
}

// number is a member's id, "-" for none.
func number(id uint64) string {
	if id == 0 {
		return "-"
	}
	return fmt.Sprint(id)
}
