package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/connectraft/connect/internal/replica"
)

// Drain hands over every leadership of this node, each to the voter that is closest behind, and
// returns when none is left. When ctx ends first the error names the groups that this node still
// leads. It is meant for the moment before Close: the others need not wait for an election timeout.
func (n *Node) Drain(ctx context.Context) error {
	ticker := time.NewTicker(n.options.Tick)
	defer ticker.Stop()
	for {
		var left []error
		for _, g := range n.Groups() {
			if !g.leads() {
				continue
			}
			left = append(left, fmt.Errorf("node: group %d is still led by this node", g.id))
			g.post(func(in *contents) {
				in.events = append(in.events, func(r *replica.Replica) { r.HandOver() })
			})
		}
		if left == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-n.done:
			return n.err
		case <-ctx.Done():
			return errors.Join(left...)
		}
	}
}

// leads reports whether this node leads the group, as far as it knows.
func (g *Group) leads() bool {
	return g.failed.Load() == nil && raft.StateType(g.role.Load()) == raft.StateLeader
}
