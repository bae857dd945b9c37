package torture

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// draw returns the places of all members in an order that is drawn.
func (r *run) draw() []int {
	places := r.sides(nil)
	r.random.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
	return places
}

// sides divides the places of the members: those of minority, and the others.
func (r *run) sides(minority []int) (others []int) {
	for _, p := range r.cluster.nodes {
		if !slices.Contains(minority, p.number) {
			others = append(others, p.number)
		}
	}
	return others
}

func held(flows []*flow) (chunks int64) {
	for _, f := range flows {
		chunks += f.held.Load()
	}
	return chunks
}

func cut(flows []*flow) {
	for _, f := range flows {
		f.setCut(true)
	}
}

// isolateLeader cuts the leader off with a minority. The others have to go on without it.
func (r *run) isolateLeader(ctx context.Context) (string, error) {
	leader, term, err := r.cluster.awaitLeader(ctx)
	if err != nil {
		return "", err
	}
	side := []int{leader.number}
	for _, i := range r.draw() {
		if i != leader.number && len(side) < r.minority() && r.random.IntN(2) == 0 {
			side = append(side, i)
		}
	}
	others := r.sides(side)
	flows := append(r.cluster.network.between(side, others),
		r.cluster.network.between(others, side)...)
	before, began := held(flows), r.clock.now()
	cut(flows)
	var next *process
	err = within(ctx, unavailableMax, func() error {
		p, nextTerm := r.cluster.leader(ctx)
		if p == nil || nextTerm <= term || slices.Contains(side, p.number) {
			return fmt.Errorf("nobody leads the majority")
		}
		next = p
		return nil
	})
	if err != nil {
		return "", r.unserved(ctx, "with the leader cut off", err)
	}
	if _, err = r.awaitWrite(ctx, r.clock.now()); err != nil {
		return "", r.unserved(ctx, "with the leader cut off", err)
	}
	took := time.Duration(r.clock.now() - began)
	sleep(ctx, r.long(10*time.Millisecond))
	if held(flows) == before {
		return "", not("nothing met the cut")
	}
	return fmt.Sprintf("node %d of term %d with %d of %d, node %d served after %v", leader.id(), term,
		len(side), len(r.cluster.nodes), next.id(), round(took)), nil
}

// isolateFollowers cuts a minority of followers off; the leader stays with the majority and goes on.
func (r *run) isolateFollowers(ctx context.Context) (string, error) {
	leader, term, err := r.cluster.awaitLeader(ctx)
	if err != nil {
		return "", err
	}
	var side []int
	count := 1 + r.random.IntN(r.minority())
	for _, i := range r.draw() {
		if i != leader.number && len(side) < count {
			side = append(side, i)
		}
	}
	others := r.sides(side)
	flows := append(r.cluster.network.between(side, others),
		r.cluster.network.between(others, side)...)
	before := held(flows)
	cut(flows)
	d := r.long(2 * electionTimeout)
	sleep(ctx, d)
	if _, err := r.awaitWrite(ctx, r.clock.now()); err != nil {
		return "", r.unserved(ctx, "with followers cut off", err)
	}
	still, nextTerm := r.cluster.leader(ctx)
	switch {
	case held(flows) == before:
		return "", not("nothing met the cut")
	case still != leader || nextTerm != term:
		return "", not("node %d ceased to lead meanwhile", leader.id())
	}
	return fmt.Sprintf("node %d of term %d stayed, %d cut off for %v", leader.id(), term, len(side),
		round(d)), nil
}

// muteLeader lets the leader hear the others but not be heard.
func (r *run) muteLeader(ctx context.Context) (string, error) {
	leader, _, err := r.cluster.awaitLeader(ctx)
	if err != nil {
		return "", err
	}
	one := []int{leader.number}
	return r.cutFor(ctx, r.cluster.network.between(one, r.sides(one)),
		fmt.Sprintf("node %d is not heard", leader.id()))
}

// deafenLeader lets the others hear the leader, which does not hear them.
func (r *run) deafenLeader(ctx context.Context) (string, error) {
	leader, _, err := r.cluster.awaitLeader(ctx)
	if err != nil {
		return "", err
	}
	one := []int{leader.number}
	return r.cutFor(ctx, r.cluster.network.between(r.sides(one), one),
		fmt.Sprintf("node %d hears nothing", leader.id()))
}

// cutOneWay cuts one direction between two nodes, mostly the leader and another; others have little
// to say to each other.
func (r *run) cutOneWay(ctx context.Context) (string, error) {
	leader, _, err := r.cluster.awaitLeader(ctx)
	if err != nil {
		return "", err
	}
	pair := r.draw()
	if end := r.random.IntN(3); end < 2 {
		at := slices.Index(pair, leader.number)
		pair[end], pair[at] = pair[at], pair[end]
	}
	return r.cutFor(ctx, r.cluster.network.between(pair[:1], pair[1:2]),
		fmt.Sprintf("from node %d to node %d", r.cluster.places[pair[0]].id(),
			r.cluster.places[pair[1]].id()))
}

// cutFor cuts flows long enough for an election.
func (r *run) cutFor(ctx context.Context, flows []*flow, detail string) (string, error) {
	before, d := held(flows), r.long(3*electionTimeout)
	cut(flows)
	sleep(ctx, d)
	if held(flows) == before {
		return "", not("nothing met the cut")
	}
	return fmt.Sprintf("%s for %v", detail, round(d)), nil
}

// delaySome slows all flows to and from a node, or all there are.
func (r *run) delaySome(ctx context.Context) (string, error) {
	nodes := r.some(len(r.cluster.nodes))
	delay := r.between(5*time.Millisecond, 150*time.Millisecond)
	jitter := r.between(time.Millisecond, delay)
	var flows []*flow
	before := int64(0)
	for _, p := range nodes {
		one := []int{p.number}
		flows = append(flows, r.cluster.network.between(one, r.sides(one))...)
		flows = append(flows, r.cluster.network.between(r.sides(one), one)...)
	}
	for _, f := range flows {
		before += f.delayed.Load()
		f.setDelay(delay, jitter)
	}
	d := r.long(time.Second)
	sleep(ctx, d)
	after := int64(0)
	for _, f := range flows {
		after += f.delayed.Load()
	}
	if after == before {
		return "", not("nothing was delayed")
	}
	return fmt.Sprintf("%s by %v to %v for %v", ids(nodes), round(delay), round(delay+jitter),
		round(d)), nil
}

// corruptSome changes one byte of each connection of a node. The receiver has to notice and end the
// connection: each byte that nodes send is under a checksum.
func (r *run) corruptSome(ctx context.Context) (string, error) {
	const noticed = 30 * time.Second
	one := []int{r.some(1)[0].number}
	flows := append(r.cluster.network.between(one, r.sides(one)),
		r.cluster.network.between(r.sides(one), one)...)
	for _, f := range flows {
		f.setDamage(true)
	}
	d := r.long(500 * time.Millisecond)
	sleep(ctx, d)
	var damaged []*relay
	for _, f := range flows {
		f.setDamage(false)
		damaged = append(damaged, f.takeDamaged()...)
	}
	deadline, cancel := context.WithTimeout(ctx, noticed)
	defer cancel()
	for _, c := range damaged {
		select {
		case <-c.ctx.Done():
		case <-deadline.Done():
			if ctx.Err() == nil {
				r.findings.violation("a changed byte was not noticed within %v", noticed)
			}
		}
	}
	if len(damaged) == 0 {
		return "", not("no byte was changed")
	}
	return fmt.Sprintf("node %d, a byte in each of %d connections within %v",
		r.cluster.places[one[0]].id(), len(damaged), round(d)), nil
}
