package torture

import (
	"context"
	"fmt"
	"time"
)

// storm has faults overlap, without regard for majorities, and waits for nothing in between.
func (r *run) storm(ctx context.Context) (string, error) {
	d := r.long(2 * time.Second)
	began, steps := time.Now(), 0
	for ; time.Since(began) < d && ctx.Err() == nil; steps++ {
		p := r.some(1)[0]
		if err := r.stormStep(p); err != nil {
			return "", fmt.Errorf("node %d: %w", p.id(), err)
		}
		sleep(ctx, r.between(20*time.Millisecond, 400*time.Millisecond))
	}
	if steps < 3 {
		return "", not("only %d steps", steps)
	}
	return fmt.Sprintf("%d steps", steps), nil
}

func (r *run) stormStep(p *process) error {
	one := []int{p.number}
	network, others := r.cluster.network, r.sides(one)
	switch r.random.IntN(9) {
	case 0, 1:
		r.kills = append(r.kills, r.clock.now())
		p.kill()
		return p.start()
	case 2:
		if running := p.running(); running != nil {
			_ = pause(running) // where that is possible
		}
	case 3:
		for _, q := range r.cluster.nodes {
			if running := q.running(); running != nil {
				_ = resume(running)
			}
		}
	case 4:
		cut(network.between(one, others))
	case 5:
		cut(network.between(others, one))
	case 6:
		network.heal()
	case 7:
		delay := r.between(5*time.Millisecond, 200*time.Millisecond)
		for _, f := range append(network.between(one, others), network.between(others, one)...) {
			f.setDelay(delay, delay)
		}
	case 8:
		if r.cluster.disks.reason == "" {
			_, err := r.cluster.disks.fill(p)
			return err
		}
	}
	return nil
}
