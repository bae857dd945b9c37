package torture

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// transferLeader gives the leadership to another node by command. Half of the time it does so several
// times, and the old leader hears late of it: it has to know by itself that its lease is over.
func (r *run) transferLeader(ctx context.Context) (detail string, err error) {
	if r.random.IntN(2) == 0 {
		return r.transferOnce(ctx, 0)
	}
	delay := r.between(electionTimeout/5, electionTimeout/3) // less than a lease
	for range 4 {
		if detail, err = r.transferOnce(ctx, delay); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("four times, last %s, which heard all %v late", detail, round(delay)), nil
}

func (r *run) transferOnce(ctx context.Context, delay time.Duration) (string, error) {
	leader, term, err := r.cluster.awaitLeader(ctx)
	if err != nil {
		return "", err
	}
	to := leader
	for to == leader {
		to = r.some(1)[0]
	}
	one := []int{leader.number}
	late := r.cluster.network.between(r.sides(one), one)
	for _, f := range late {
		f.setDelay(delay, 0)
	}
	began := time.Now()
	err = r.operator.start(ctx, "transfer", strconv.FormatUint(to.id(), 10)).err()
	took := time.Since(began)
	for _, f := range late {
		f.setDelay(0, 0)
	}
	if err != nil {
		return "", not("%v", err)
	}
	if s, err := to.status(ctx); err == nil && s.Term <= term {
		r.findings.violation("a transfer to node %d is done, which is in term %d as before", to.id(),
			s.Term)
	}
	if now, _ := r.cluster.leader(ctx); now != to {
		return "", not("node %d does not lead any more", to.id())
	}
	return fmt.Sprintf("to node %d in %v from node %d", to.id(), round(took), leader.id()), nil
}

// drainLeader takes the leadership from a node by command and ends it with SIGTERM, as for
// maintenance.
func (r *run) drainLeader(ctx context.Context) (string, error) {
	leader, term, err := r.cluster.awaitLeader(ctx)
	if err != nil {
		return "", err
	}
	c := r.operator.start(ctx, "drain", strconv.FormatUint(leader.id(), 10))
	if err := c.err(); err != nil {
		return "", not("%v", err)
	}
	if s, err := leader.status(ctx); err == nil && s.Role == "leader" && s.Term == term {
		r.findings.violation("node %d is drained, and leads in term %d as before", leader.id(), term)
	}
	next, _ := r.cluster.leader(ctx)
	if next == nil || next == leader {
		return "", not("node %d leads again", leader.id())
	}
	began := r.clock.now()
	r.awaitEnd(leader, leader.terminate())
	if _, err := r.awaitWrite(ctx, began); err != nil {
		return "", r.unserved(ctx, "with a drained node down", err)
	}
	d := r.long(10 * time.Millisecond)
	sleep(ctx, d)
	return fmt.Sprintf("node %d, node %d led, down for %v", leader.id(), next.id(), round(d)), nil
}
