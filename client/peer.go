package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/connectraft/connect/internal/wire"
)

// errNotSent marks an attempt of which no byte was given to the network.
var errNotSent = errors.New("not sent")

// peer is one node and at most one connection to it, which is made when a request needs it and
// made again when it broke.
type peer struct {
	address string
	options Options
	window  chan struct{} // one token for each request under way

	dialing chan struct{} // one token: held while a connection is made
	mu      struct {
		sync.Mutex
		conn   *connection // nil before the first request
		closed bool
	}
}

func newPeer(address string, o Options) *peer {
	return &peer{address: address, options: o, window: make(chan struct{}, o.Inflight),
		dialing: make(chan struct{}, 1)}
}

// roundTrip sends a request and waits for its reply. An error that matches errNotSent is definite;
// after any other the node may have got the request.
func (p *peer) roundTrip(ctx context.Context, request wire.Frame) (wire.Frame, error) {
	select {
	case p.window <- struct{}{}:
		defer func() { <-p.window }()
	case <-ctx.Done():
		return wire.Frame{}, fmt.Errorf("%w to %s: %w", errNotSent, p.address, context.Cause(ctx))
	}
	conn, err := p.connect(ctx)
	if err != nil {
		return wire.Frame{}, fmt.Errorf("%w: %w", errNotSent, err)
	}
	return conn.roundTrip(ctx, request)
}

// connect returns the connection, a new one when there is none or it broke.
func (p *peer) connect(ctx context.Context) (*connection, error) {
	if conn, err := p.current(); conn != nil || err != nil {
		return conn, err
	}
	select {
	case p.dialing <- struct{}{}:
		defer func() { <-p.dialing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if conn, err := p.current(); conn != nil || err != nil {
		return conn, err // another request made it
	}
	dialer := net.Dialer{Timeout: p.options.Timeout}
	socket, err := dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, err
	}
	conn := newConnection(socket, p.options)
	p.mu.Lock()
	closed, old := p.mu.closed, p.mu.conn
	p.mu.conn = conn
	p.mu.Unlock()
	if old != nil {
		old.close()
	}
	if closed { // meanwhile
		conn.close()
		return nil, ErrClosed
	}
	return conn, nil
}

// current returns the connection, or nil when there is none that works.
func (p *peer) current() (*connection, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return nil, ErrClosed
	}
	if p.mu.conn == nil || p.mu.conn.broken() {
		return nil, nil
	}
	return p.mu.conn, nil
}

func (p *peer) close() {
	p.mu.Lock()
	conn := p.mu.conn
	p.mu.closed = true
	p.mu.Unlock()
	if conn != nil {
		conn.close()
	}
}
