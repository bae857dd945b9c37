package transport

import (
	"context"
	"sync"
)

// notifier carries PeerLost and PeerUp to the handler on one goroutine of its own, so that no
// call into the transport ever calls back, and in an order that tells the truth: a loss is
// reported before the connection that follows it. Losses that happen faster than the handler
// takes them are one.
type notifier struct {
	handler Handler
	wake    chan struct{}

	mu struct {
		sync.Mutex
		pending map[uint64]*notice
		order   []uint64 // keys of pending, oldest first
	}
}

type notice struct {
	lost, up    bool
	incarnation uint64
}

func newNotifier(h Handler) *notifier {
	n := &notifier{handler: h, wake: make(chan struct{}, 1)}
	n.mu.pending = make(map[uint64]*notice)
	return n
}

// lost reports that something sent to peer, or by it, may not arrive.
func (n *notifier) lost(peer uint64) {
	n.update(peer, func(p *notice) { p.lost = true })
}

// down is lost for a connection that ended: an arrival not yet told is no longer true.
func (n *notifier) down(peer uint64) {
	n.update(peer, func(p *notice) { p.lost, p.up = true, false })
}

// up reports that peer is connected.
func (n *notifier) up(peer, incarnation uint64) {
	n.update(peer, func(p *notice) { p.up, p.incarnation = true, incarnation })
}

func (n *notifier) update(peer uint64, change func(*notice)) {
	n.mu.Lock()
	p := n.mu.pending[peer]
	if p == nil {
		p = &notice{}
		n.mu.pending[peer] = p
		n.mu.order = append(n.mu.order, peer)
	}
	change(p)
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// run delivers until ctx ends.
func (n *notifier) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		}
		for {
			peer, p, ok := n.take()
			if !ok || ctx.Err() != nil {
				break
			}
			if p.lost {
				n.handler.PeerLost(peer)
			}
			if p.up {
				n.handler.PeerUp(peer, p.incarnation)
			}
		}
	}
}

func (n *notifier) take() (uint64, notice, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.mu.order) == 0 {
		return 0, notice{}, false
	}
	peer := n.mu.order[0]
	n.mu.order = n.mu.order[1:]
	p := n.mu.pending[peer]
	delete(n.mu.pending, peer)
	return peer, *p, true
}
