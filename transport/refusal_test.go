package transport_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/connectraft/connect/transport"
)

// told is a handler that hears of refusals, and admits nobody once it is closed.
type told struct {
	*recorder
	closed        atomic.Bool
	refused, gone atomic.Int64
}

func (h *told) AdmitPeer(uint64, uint64, string) error {
	if h.closed.Load() {
		return errors.New("its disk was wiped")
	}
	return nil
}

func (h *told) PeerRefused(_ uint64, removed bool, _ string) {
	if removed {
		h.gone.Add(1)
	} else {
		h.refused.Add(1)
	}
}

// What a handler learns after a peer was admitted counts from Reconnect on, on both sides, and the
// peer's own handler hears why.
func TestReconnectJudgesAnew(t *testing.T) {
	var handlers []*told
	a, b := startPair(t, func(o *transport.Options) {
		h := &told{recorder: o.Handler.(*recorder)}
		handlers = append(handlers, h)
		o.Handler = h
	})
	b.Reconnect(1)
	waitConnected(t, a, 2)
	waitConnected(t, b, 1)
	handlers[1].closed.Store(true)
	b.Reconnect(1)
	waitFor(t, "the connections in both directions end", func() bool {
		return !statsOf(a, 2).Connected && !statsOf(b, 1).Connected
	})
	waitFor(t, "node 1 hears that it is refused", func() bool {
		return handlers[0].refused.Load() > 0
	})
	handlers[1].closed.Store(false)
	waitConnected(t, a, 2)
	waitConnected(t, b, 1)
	b.RemovePeer(1)
	waitFor(t, "node 1 hears that it was removed", func() bool { return handlers[0].gone.Load() > 0 })
}
