package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// churn adds a node to the members and then removes one of the others. While the commands run, nodes
// are killed, each when it is its turn; a command that does not survive that is given again.
func (r *run) churn(ctx context.Context) (string, error) {
	joins := r.spare()
	r.cluster.nodes = append(r.cluster.nodes, joins)
	a, err := r.newcomer(joins)
	if err != nil {
		return "", err
	}
	defer a.close()
	added, err := r.amidKills(ctx, func() *order {
		return r.operator.start(ctx, "member", "add", a.address())
	})
	if err == nil {
		err = r.votes(ctx, joins, true)
	}
	if err != nil {
		return "", r.stuck(ctx, fmt.Sprintf("node %d is not added", joins.id()), err)
	}
	leaves := r.cluster.nodes[r.random.IntN(len(r.cluster.nodes)-1)]
	if leader, _ := r.cluster.leader(ctx); leader != nil && leader != joins && r.random.IntN(2) == 0 {
		leaves = leader
	}
	removed, err := r.amidKills(ctx, func() *order {
		return r.operator.start(ctx, "member", "remove", fmt.Sprint(leaves.id()))
	})
	if err == nil {
		err = r.dismiss(ctx, leaves)
	}
	if err != nil {
		return "", r.stuck(ctx, fmt.Sprintf("node %d is not removed", leaves.id()), err)
	}
	if added+removed == 0 {
		return "", not("no kill met the changes")
	}
	return fmt.Sprintf("node %d came, node %d went, %d and %d kills meanwhile", joins.id(), leaves.id(),
		added, removed), nil
}

// stuck notes that a change of the members was not finished.
func (r *run) stuck(ctx context.Context, what string, err error) error {
	if ctx.Err() == nil {
		r.findings.violation("%s: %v", what, err)
	}
	return not("%s: %v", what, err)
}

// spare is the place that no node has.
func (r *run) spare() *process {
	i := slices.IndexFunc(r.cluster.places, func(p *process) bool {
		return !slices.Contains(r.cluster.nodes, p)
	})
	return r.cluster.places[i]
}

// killsMax bounds the kills during one change.
const killsMax = 3

// amidKills gives a command until it is done and kills nodes in the middle. It returns how many
// kills met a command that was under way.
func (r *run) amidKills(ctx context.Context, give func() *order) (met int, _ error) {
	deadline := time.Now().Add(2 * commandMax)
	for attempt := 0; ; attempt++ {
		c := give()
		for met < killsMax && c.running() {
			n, err := r.killAmid(ctx, c)
			met += n
			if err != nil {
				<-c.ended
				return met, err
			}
		}
		err := c.err()
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return met, errors.Join(err, ctx.Err())
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

// killAmid waits a moment and kills a node, the leader half of the time, if the command is still
// under way, and starts it again.
func (r *run) killAmid(ctx context.Context, c *order) (met int, _ error) {
	p := r.some(1)[0]
	if leader, _ := r.cluster.leader(ctx); leader != nil && r.random.IntN(2) == 0 {
		p = leader
	}
	sleep(ctx, r.between(time.Millisecond, 300*time.Millisecond))
	if !c.running() {
		return 0, nil
	}
	r.kills = append(r.kills, r.clock.now())
	p.kill()
	if c.running() {
		met = 1
	}
	sleep(ctx, r.between(10*time.Millisecond, 2*electionTimeout))
	if err := p.start(); err != nil {
		return met, err
	}
	sleep(ctx, r.between(10*time.Millisecond, 2*electionTimeout))
	return met, nil
}

// votes requires that a node is among the voters, or is not.
func (r *run) votes(ctx context.Context, p *process, want bool) error {
	return within(ctx, unavailableMax, func() error {
		m, err := r.members(ctx)
		if err != nil {
			return err
		}
		if _, votes := m.Find(p.id()); votes != want {
			return fmt.Errorf("voter: %v, want %v", votes, want)
		}
		return nil
	})
}

// dismiss waits until a removed node says so, and ends it. Its place is free then.
func (r *run) dismiss(ctx context.Context, p *process) error {
	r.cluster.nodes = slices.DeleteFunc(slices.Clone(r.cluster.nodes), func(q *process) bool {
		return q == p
	})
	if err := r.votes(ctx, p, false); err != nil {
		return err
	}
	err := within(ctx, unavailableMax, func() error {
		body, err := p.get(ctx, "/readyz")
		if err == nil {
			return fmt.Errorf("it is ready: %s", body)
		}
		if !strings.Contains(err.Error(), "removed") {
			return fmt.Errorf("it does not say that it was removed: %w", err)
		}
		return servesNobody(p)
	})
	if err != nil {
		return err
	}
	r.awaitEnd(p, p.terminate())
	return os.RemoveAll(p.dir)
}
