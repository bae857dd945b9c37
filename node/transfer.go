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
// returns when none is left. When ctx ends first the error says how many groups this node still
// leads, and which is the first. It is meant for the moment before Close: the others need not wait
// for an election timeout.
func (n *Node) Drain(ctx context.Context) error {
	ticker := time.NewTicker(n.options.Tick)
	defer ticker.Stop()
	for {
		led, first := 0, uint64(0)
		n.groups.each(func(g *Group) {
			if !g.leads() {
				return
			}
			led++
			if first == 0 || g.id < first {
				first = g.id
			}
			g.post(func(in *contents) { // the core ignores it while a transfer is under way
				in.events = append(in.events, func(r *replica.Replica) { r.HandOver() })
			})
		})
		if led == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-n.done:
			return n.err
		case <-ctx.Done():
			return fmt.Errorf("node: %d groups are still led by node %d, the first is group %d: %w",
				led, n.options.ID, first, context.Cause(ctx))
		}
	}
}

// leads reports whether this node leads the group, as far as it knows.
func (g *Group) leads() bool {
	return g.failed.Load() == nil && raft.StateType(g.role.Load()) == raft.StateLeader
}

// Transfer hands the leadership to a voter, from whoever leads, and returns nil when it leads. It
// may be asked on any node. ErrTransferFailed says that the voter did not take over,
// ErrInvalidChange that it is none.
func (g *Group) Transfer(ctx context.Context, to uint64) error {
	for {
		a, leader, err := g.askLeader(ctx, controlRequest{Ask: askLook})
		if err == nil && a.Leader == leader {
			switch {
			case leader == to:
				return nil
			case a.Leads && !a.Now.votes(to):
				return fmt.Errorf("%w: node %d has no vote in group %d: %s", ErrInvalidChange, to,
					g.id, a.Now)
			}
			_, err = g.node.control.ask(ctx, g, leader, controlRequest{Ask: askTransfer, To: to})
			if errors.Is(err, ErrTransferFailed) || errors.Is(err, ErrInvalidChange) {
				return err
			}
		}
		// What else went wrong is not the end: the next look says who leads.
		if err := g.pauseForLeader(ctx, err); err != nil {
			return err
		}
	}
}

// askLeader asks whom this node takes for the leader.
func (g *Group) askLeader(ctx context.Context, r controlRequest) (a controlAnswer, leader uint64,
	err error) {
	leader = g.lead.Load()
	if leader == raft.None {
		return a, leader, ErrNoLeader
	}
	a, err = g.node.control.ask(ctx, g, leader, r)
	return a, leader, err
}

// pauseForLeader waits a moment before the leader is asked again.
func (g *Group) pauseForLeader(ctx context.Context, last error) error {
	o := operation{group: g}
	if err := o.pause(ctx); err != nil {
		return errors.Join(err, last)
	}
	return nil
}

// transferWait is somebody who waits for the end of a transfer.
type transferWait struct {
	to   uint64
	done chan error // has room for one
}

// serveTransfer transfers the leadership as the leader, and returns when it is known how that
// ended.
func (g *Group) serveTransfer(ctx context.Context, to uint64) error {
	w := &transferWait{to: to, done: make(chan error, 1)}
	asked := g.post(func(in *contents) {
		in.events = append(in.events, func(r *replica.Replica) {
			if err := r.Transfer(to); err != nil {
				w.done <- fromCore(err)
				return
			}
			g.members.transfers = append(g.members.transfers, w)
		})
	})
	if !asked {
		return ErrClosed
	}
	return g.await(ctx, w.done)
}

// endTransfers tells those who wait how the transfer to a node has ended. It runs on the worker.
func (g *Group) endTransfers(to uint64, err error) {
	for _, w := range g.members.transfers {
		switch {
		case w.to != to:
			w.done <- fmt.Errorf("%w: node %d was asked", ErrTransferFailed, to)
		case err != nil:
			w.done <- fromCore(err)
		default:
			w.done <- nil
		}
	}
	g.members.transfers = nil
}
