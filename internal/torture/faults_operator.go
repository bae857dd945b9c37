package torture

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// transferLeader gives the leadership to another node by command. Half of the time the old leader hears
// late of it, and has to know by itself that it may not answer on its lease any more.
func (r *run) transferLeader(ctx context.Context) (string, error) {
	leader, term, err := r.cluster.awaitLeader(ctx)
	if err != nil {
		return "", err
	}
	to := leader
	for to == leader {
		to = r.some(1)[0]
	}
	late := ""
	if r.random.IntN(2) == 0 {
		delay := r.between(50*time.Millisecond, 200*time.Millisecond)
		one := []int{leader.number}
		for _, f := range r.cluster.network.between(r.sides(one), one) {
			f.setDelay(delay, 0)
		}
		late = fmt.Sprintf(", which hears all %v late", round(delay))
	}
	began := time.Now()
	c := r.operator.start(ctx, "transfer", strconv.FormatUint(to.id(), 10))
	if err := c.err(); err != nil {
		return "", not("%v", err)
	}
	took := time.Since(began)
	if s, err := to.status(ctx); err == nil && s.Term <= term {
		r.findings.violation("a transfer to node %d is done, which is in term %d as before", to.id(),
			s.Term)
	}
	if now, _ := r.cluster.leader(ctx); now != to {
		return "", not("node %d does not lead any more", to.id())
	}
	return fmt.Sprintf("to node %d in %v from node %d%s", to.id(), round(took), leader.id(), late), nil
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
