package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/connectraft/connect/internal/wire"
)

// Group is one raft group of the cluster. Its methods may be called from any goroutine.
type Group struct {
	client *Client
	id     uint64
	leader route // for what the leader has to answer
	near   route // for what any node can answer
}

func newGroup(c *Client, id uint64) *Group {
	g := &Group{client: c, id: id}
	g.leader.addresses, g.near.addresses = c.options.Addresses, c.options.Addresses
	g.leader.mu.preferred, g.near.mu.preferred = c.options.Addresses[0], c.options.Addresses[0]
	return g
}

// Write has a command applied, once. A nil error means that it is, and that it is on the disks of
// a majority; an error that matches [ErrUnknown] leaves it open; any other means that it is not and
// never will be. The command is not used after Write returns.
func (g *Group) Write(ctx context.Context, command []byte) (Result, error) {
	return g.do(ctx, attempts{request: wire.Frame{Kind: wire.Write, Payload: command}})
}

// Read has a query answered from a state as fresh as level says. The query is not used after Read
// returns.
func (g *Group) Read(ctx context.Context, query []byte, level ReadLevel) (Result, error) {
	return g.do(ctx, attempts{request: wire.Frame{Kind: wire.Read, Payload: query,
		Request: wire.Request{Level: level.level, Bound: level.bound}}})
}

const (
	pauseFirst = 5 * time.Millisecond
	pauseMax   = 250 * time.Millisecond
)

// attempts is what is known about a request that is sent until it has an outcome.
type attempts struct {
	request wire.Frame
	session *Session // of a write in one
	// open is set when an earlier attempt may have been applied.
	open bool
	last error // why the last one was not
}

// do sends a request until its outcome is known, cannot be known, or ctx ends.
func (g *Group) do(ctx context.Context, a attempts) (Result, error) {
	o := g.client.options
	if n := len(a.request.Payload); n > o.CommandBytes {
		return Result{}, fmt.Errorf("%w: %d bytes, Options.CommandBytes is %d", ErrTooLarge, n,
			o.CommandBytes)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	a.request.Group = g.id
	route := &g.leader
	if a.request.Kind == wire.Read && a.request.Level >= wire.AtLeast {
		route = &g.near
	}
	for pause := pauseFirst; ; pause = min(2*pause, pauseMax) {
		result, done, err := g.attempt(ctx, route, &a)
		if done {
			return result, err
		}
		if !sleep(ctx, pause/2+rand.N(pause)) {
			return Result{}, a.end(ErrUnavailable, errors.Join(context.Cause(ctx), a.last))
		}
	}
}

// attempt sends the request once; done says that it has its outcome.
func (g *Group) attempt(ctx context.Context, route *route, a *attempts) (
	_ Result, done bool, _ error,
) {
	address := route.next()
	p, err := g.client.node(address)
	if err != nil {
		return Result{}, true, a.end(ErrClosed, nil)
	}
	if a.session != nil { // what fills the session may be acknowledged by now
		a.request.Acked = a.session.acknowledged()
	}
	if p == nil { // too many hints
		route.leave(address)
		return Result{}, false, nil
	}
	reply, err := p.roundTrip(ctx, a.request)
	if err != nil {
		if !errors.Is(err, context.Canceled) { // the caller's wish says nothing about the node
			route.leave(address)
		}
		unsent := errors.Is(err, errNotSent)
		return a.failed(err, !unsent)
	}
	if reply.Leader != "" && route == &g.leader {
		route.prefer(reply.Leader)
	}
	return a.judge(route, address, reply)
}

// failed notes an attempt without an outcome. A request that can be repeated will be.
func (a *attempts) failed(err error, mayBeApplied bool) (_ Result, done bool, _ error) {
	if mayBeApplied && a.request.Kind == wire.Write {
		if a.request.Session == 0 {
			return Result{}, true, &requestError{ErrUnknown, err}
		}
		a.open = true
	}
	a.last = err
	return Result{}, false, nil
}

// end is the error of a request that is given up for a reason.
func (a *attempts) end(kind, detail error) error {
	err := kind
	if detail != nil {
		err = &requestError{kind, detail}
	}
	if a.open {
		err = &requestError{ErrUnknown, err}
	}
	return err
}

// judge turns a reply into the outcome of the request.
func (a *attempts) judge(route *route, address string, reply wire.Frame) (
	_ Result, done bool, _ error,
) {
	detail := fmt.Errorf("%s: %s", address, reply.Payload)
	switch reply.Status {
	case wire.OK:
		return Result{Index: reply.Index, Answer: reply.Payload}, true, nil
	case wire.Refused:
		return Result{}, true, a.end(ErrRefused, detail)
	case wire.TooLarge:
		return Result{}, true, a.end(ErrTooLarge, detail)
	case wire.SessionExpired, wire.SequenceTooOld:
		return Result{}, true, a.end(ErrSessionExpired, detail)
	case wire.Overloaded, wire.NoLeader, wire.DiskFull, wire.SessionFull:
		return a.failed(detail, false) // the same anywhere: it passes, or it does not
	case wire.NotLeader:
		if reply.Leader == "" {
			route.leave(address)
		}
		return a.failed(detail, false)
	case wire.Closed, wire.Failed, wire.NoGroup, wire.Behind:
		route.leave(address)
		return a.failed(detail, false)
	}
	// Unknown, or a status of a newer server, of which nothing can be assumed.
	return a.failed(detail, true)
}

// route is where the next request of a kind goes.
type route struct {
	addresses []string
	mu        struct {
		sync.Mutex
		preferred string
		turn      int // walks through addresses
	}
}

func (r *route) next() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.preferred
}

func (r *route) prefer(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.preferred = address
}

// leave goes to another node if address is still the one in use.
func (r *route) leave(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.preferred != address {
		return
	}
	for range r.addresses {
		r.mu.turn = (r.mu.turn + 1) % len(r.addresses)
		r.mu.preferred = r.addresses[r.mu.turn]
		if r.mu.preferred != address {
			return
		}
	}
}
