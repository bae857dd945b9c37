package torture

import (
	"context"
	"fmt"
	"time"
)

// settleTime is how long the nodes may take to agree when nothing disturbs them any more.
const settleTime = time.Minute

// settle waits until nothing is under way: all nodes have applied the same entries, and still so a
// moment later.
func (c *cluster) settle(ctx context.Context) error {
	same, since := uint64(0), time.Now()
	return within(ctx, settleTime, func() error {
		var index uint64
		for i, p := range c.nodes {
			s, err := p.status(ctx)
			switch {
			case err != nil:
				return err
			case i == 0:
				index = s.Applied
			case s.Applied != index:
				return fmt.Errorf("node %d has applied up to %d, node %d up to %d", p.id(), s.Applied,
					c.nodes[0].id(), index)
			}
			if s.Commit != s.Applied {
				return fmt.Errorf("node %d has applied %d of %d", p.id(), s.Applied, s.Commit)
			}
		}
		if index != same {
			same, since = index, time.Now()
		}
		if calm := time.Since(since); calm < requestTimeout {
			return fmt.Errorf("nothing was applied for %v only", calm)
		}
		return nil
	})
}

// compare reads every key from every node and holds the answers against each other. A read is
// answered from the state of the node that was asked. The reads become part of the histories.
func (r *run) compare(ctx context.Context, when string) error {
	if err := r.cluster.awaitReady(ctx, settleTime); err != nil {
		return err
	}
	if err := r.cluster.settle(ctx); err != nil {
		return err
	}
	seen := map[string]string{}
	for _, p := range r.cluster.nodes {
		if err := r.readAll(p, when, seen); err != nil {
			return fmt.Errorf("%s: read from node %d: %w", when, p.id(), err)
		}
	}
	r.compared = true
	return nil
}

// readAll reads every key from a node; seen has what was read first, and whence.
func (r *run) readAll(p *process, when string, seen map[string]string) error {
	conn, err := dialRESP(p.client, time.Second)
	if err != nil {
		return err
	}
	defer conn.close()
	keys := r.keys.all()
	commands := make([][]string, len(keys))
	for i, k := range keys {
		commands[i] = []string{string(get), k.name}
	}
	call := r.clock.now()
	if err := conn.send(settleTime, commands...); err != nil {
		return err
	}
	for _, k := range keys {
		answer, err := readReply(conn.r)
		if err == nil && answer.failed != "" {
			err = fmt.Errorf("answered %q", answer.failed)
		}
		if err != nil {
			return fmt.Errorf("get %s: %w", k.name, err)
		}
		value := whole(answer.text, k.name, r.findings)
		client := clientsPerNode*sessionUsers*len(r.cluster.places) + p.number
		r.keys.add(k, operation{Client: client, Key: k.name, Kind: get, Value: value,
			Via: fmt.Sprintf("resp %d, %s", p.id(), when), Outcome: applied, Call: call, Return: r.clock.now()})
		first, known := seen[k.name]
		if !known {
			seen[k.name] = value
		} else if first != value {
			r.findings.violation("%s: %s is %q on node %d and %q on another", when, k.name, value,
				p.id(), first)
		}
	}
	return nil
}
