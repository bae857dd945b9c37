package torture

import (
	"context"
	"fmt"
	"os"
	"time"
)

// some draws 1 to count of the nodes.
func (r *run) some(count int) []*process {
	var nodes []*process
	for _, i := range r.random.Perm(len(r.cluster.nodes))[:1+r.random.IntN(count)] {
		nodes = append(nodes, r.cluster.nodes[i])
	}
	return nodes
}

// minority is the largest number of nodes without which the cluster serves.
func (r *run) minority() int { return (len(r.cluster.nodes) - 1) / 2 }

func ids(nodes []*process) string {
	text := "node"
	for _, p := range nodes {
		text += fmt.Sprintf(" %d", p.id())
	}
	return text
}

func (r *run) killOne(ctx context.Context) (string, error) { return r.kill(ctx, r.some(1)) }

func (r *run) killMinority(ctx context.Context) (string, error) {
	nodes := r.some(1)
	for len(nodes) < r.minority() {
		nodes = r.some(r.minority())
	}
	return r.kill(ctx, nodes)
}

func (r *run) killAll(ctx context.Context) (string, error) { return r.kill(ctx, r.cluster.nodes) }

// kill ends nodes with SIGKILL at once and starts each after a time of its own.
func (r *run) kill(ctx context.Context, nodes []*process) (string, error) {
	r.kills = append(r.kills, r.clock.now())
	for _, p := range nodes {
		p.signal(os.Kill)
	}
	for _, p := range nodes {
		p.kill()
		if p.exitCode() != -1 {
			return "", not("node %d ended before it was killed", p.id())
		}
	}
	down := r.long(10 * time.Millisecond)
	for _, p := range nodes {
		sleep(ctx, down/time.Duration(len(nodes)))
		if err := p.start(); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s, down for %v", ids(nodes), round(down)), nil
}

// killLeader also measures the time to the first write that the others acknowledge.
func (r *run) killLeader(ctx context.Context) (string, error) {
	leader, term, err := r.cluster.awaitLeader(ctx)
	if err != nil {
		return "", err
	}
	gone := leader.signal(os.Kill)
	killed := r.clock.now()
	r.kills = append(r.kills, killed)
	<-gone
	failover, err := r.awaitWrite(ctx, killed)
	if err != nil {
		return "", r.unserved(ctx, "with the leader killed", err)
	}
	r.failovers = append(r.failovers, failover)
	down := r.long(10 * time.Millisecond)
	sleep(ctx, down)
	return fmt.Sprintf("node %d of term %d, failover %v", leader.id(), term, round(failover)), nil
}

// unserved notes that the cluster did not serve although a majority was whole.
func (r *run) unserved(ctx context.Context, when string, err error) error {
	if ctx.Err() == nil {
		r.findings.violation("%s: %v", when, err)
	}
	return not("%s: %v", when, err)
}

func (r *run) pauseSome(ctx context.Context) (string, error) {
	return r.pause(ctx, r.some(r.minority()), r.long(100*time.Millisecond))
}

func (r *run) pauseAll(ctx context.Context) (string, error) {
	return r.pause(ctx, r.cluster.nodes, r.long(100*time.Millisecond))
}

func (r *run) pauseLeader(ctx context.Context) (string, error) {
	leader, _, err := r.cluster.awaitLeader(ctx)
	if err != nil {
		return "", err
	}
	return r.pause(ctx, []*process{leader}, r.long(2*electionTimeout))
}

// pause stops nodes with SIGSTOP and lets them go on, each when it is its turn.
func (r *run) pause(ctx context.Context, nodes []*process, d time.Duration) (string, error) {
	for _, p := range nodes {
		running := p.running()
		if running == nil {
			return "", not("node %d does not run", p.id())
		}
		if err := pause(running); err != nil {
			return "", not("node %d: %v", p.id(), err)
		}
	}
	sleep(ctx, d)
	for _, p := range nodes {
		running := p.running()
		if running == nil {
			return "", not("node %d ended", p.id())
		}
		if is, known := stopped(running.Pid); known && !is {
			return "", not("node %d went on", p.id())
		}
		if err := resume(running); err != nil {
			return "", not("node %d: %v", p.id(), err)
		}
	}
	return fmt.Sprintf("%s for %v", ids(nodes), round(d)), nil
}

// terminateOne ends a node, the leader half of the time, with SIGTERM, which it must obey.
func (r *run) terminateOne(ctx context.Context) (string, error) {
	p := r.some(1)[0]
	if r.random.IntN(2) == 0 {
		leader, _, err := r.cluster.awaitLeader(ctx)
		if err != nil {
			return "", err
		}
		p = leader
	}
	began := time.Now()
	r.awaitEnd(p, p.terminate())
	took := time.Since(began)
	sleep(ctx, r.long(10*time.Millisecond))
	return fmt.Sprintf("node %d, ended after %v", p.id(), round(took)), nil
}
