package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/connectraft/connect/internal/wire"
)

// Options say whom a client talks to. A zero value of any field but Addresses means its default.
type Options struct {
	// Addresses are the client addresses (host:port) of members; one that runs is enough.
	Addresses []string
	// Timeout bounds a request whose context has no deadline; default 10 s.
	Timeout time.Duration
	// CommandBytes is the largest command or query that is sent; default 1 MiB, which is also the
	// default of the cluster's limits.command.
	CommandBytes int
	// Inflight is how many requests may be under way to one node; others wait. Default 1,024.
	Inflight int
	// ReplyBytes bounds the answers that are accepted; default 64 MiB.
	ReplyBytes int
}

// Result is the answer to a request.
type Result struct {
	// Index is the log index of the entry that carried the command; of a read, the index up to
	// which the answer reflects the log.
	Index uint64
	// Answer is what the state machine answered; of a RESP service, a RESP value, of which an error
	// of the service is one kind. It belongs to the caller.
	Answer []byte
}

// Client is a connection to a cluster. Its methods may be called from any goroutine.
type Client struct {
	options Options

	mu struct {
		sync.Mutex
		nodes     map[string]*peer // by address
		preferred string           // where the next request goes
		turn      int              // walks through Options.Addresses
		closed    bool
	}
}

// Open makes a client. It connects when the first request is made, so an error is about options.
func Open(o Options) (*Client, error) {
	if len(o.Addresses) == 0 {
		return nil, errors.New("client: Options.Addresses is empty: want at least one host:port")
	}
	var errs []error
	for _, a := range o.Addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			errs = append(errs, fmt.Errorf("client: Options.Addresses: %q: want host:port", a))
		}
	}
	if o.Timeout < 0 || o.CommandBytes < 0 || o.Inflight < 0 || o.ReplyBytes < 0 {
		errs = append(errs, errors.New("client: a number in Options is negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	setDefault(&o.Timeout, 10*time.Second)
	setDefault(&o.CommandBytes, 1<<20)
	setDefault(&o.Inflight, 1024)
	setDefault(&o.ReplyBytes, 64<<20)
	c := &Client{options: o}
	c.mu.nodes = make(map[string]*peer)
	c.mu.preferred = o.Addresses[0]
	return c, nil
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Command encodes a command of a RESP service for Write or Read.
func Command(name string, args ...string) []byte {
	words := make([][]byte, len(args))
	for i, arg := range args {
		words[i] = []byte(arg)
	}
	return wire.AppendCommand(nil, name, words)
}

// Write has a command applied, once. A nil error means that it is, and that it is on the disks of
// a majority; an error that matches [ErrUnknown] leaves it open; any other means that it is not and
// never will be. The command is not used after Write returns.
func (c *Client) Write(ctx context.Context, command []byte) (Result, error) {
	return c.do(ctx, wire.Write, command)
}

// Read has a query answered from a state that reflects every write acknowledged before.
func (c *Client) Read(ctx context.Context, query []byte) (Result, error) {
	return c.do(ctx, wire.Read, query)
}

// Close ends all connections. Writes in flight end with ErrUnknown.
func (c *Client) Close() error {
	c.mu.Lock()
	c.mu.closed = true
	nodes := c.mu.nodes
	c.mu.nodes = nil
	c.mu.Unlock()
	for _, p := range nodes {
		p.close()
	}
	return nil
}

const (
	pauseFirst = 5 * time.Millisecond
	pauseMax   = 250 * time.Millisecond
)

// do sends a request until its outcome is known, cannot be known, or ctx ends.
func (c *Client) do(ctx context.Context, kind wire.Kind, payload []byte) (Result, error) {
	if n := len(payload); n > c.options.CommandBytes {
		return Result{}, fmt.Errorf("%w: %d bytes, Options.CommandBytes is %d", ErrTooLarge, n,
			c.options.CommandBytes)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.options.Timeout)
		defer cancel()
	}
	var last error // why the last attempt was not applied
	for pause := pauseFirst; ; pause = min(2*pause, pauseMax) {
		p, err := c.node()
		if err != nil {
			return Result{}, err
		}
		reply, err := p.roundTrip(ctx, kind, payload)
		result, again, err := c.judge(p, kind, reply, err)
		if !again {
			return result, err
		}
		last = err
		if !sleep(ctx, pause/2+rand.N(pause)) {
			return Result{}, &requestError{ErrUnavailable, errors.Join(context.Cause(ctx), last)}
		}
	}
}

// judge turns what one attempt brought into the outcome of the request; again says that the
// request was not applied, err being why, and may be sent once more.
func (c *Client) judge(p *peer, kind wire.Kind, reply wire.Frame, err error) (
	_ Result, again bool, _ error,
) {
	if err != nil {
		if !errors.Is(err, context.Canceled) { // the caller's wish says nothing about the node
			c.leave(p.address)
		}
		unsent := errors.Is(err, errNotSent)
		if kind == wire.Write && !unsent {
			return Result{}, false, &requestError{ErrUnknown, err}
		}
		return Result{}, true, err
	}
	if reply.Leader != "" {
		c.prefer(reply.Leader)
	}
	detail := fmt.Errorf("%s: %s", p.address, reply.Payload)
	switch reply.Status {
	case wire.OK:
		return Result{Index: reply.Index, Answer: reply.Payload}, false, nil
	case wire.Refused:
		return Result{}, false, &requestError{ErrRefused, detail}
	case wire.TooLarge:
		return Result{}, false, &requestError{ErrTooLarge, detail}
	case wire.Overloaded, wire.NoLeader, wire.DiskFull:
		return Result{}, true, detail // the same anywhere: it passes, or it does not
	case wire.NotLeader:
		if reply.Leader == "" {
			c.leave(p.address)
		}
		return Result{}, true, detail
	case wire.Closed, wire.Failed:
		c.leave(p.address)
		return Result{}, true, detail
	}
	// Unknown, or a status of a newer server, of which nothing can be assumed.
	if kind == wire.Read {
		return Result{}, true, detail
	}
	return Result{}, false, &requestError{ErrUnknown, detail}
}

// node returns the node that the next request goes to.
func (c *Client) node() (*peer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return nil, ErrClosed
	}
	p := c.mu.nodes[c.mu.preferred]
	if p == nil {
		p = newPeer(c.mu.preferred, c.options)
		c.mu.nodes[c.mu.preferred] = p
	}
	return p, nil
}

// leave goes to another node if address is still the one in use.
func (c *Client) leave(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.preferred != address {
		return
	}
	for range c.options.Addresses {
		c.mu.turn = (c.mu.turn + 1) % len(c.options.Addresses)
		c.mu.preferred = c.options.Addresses[c.mu.turn]
		if c.mu.preferred != address {
			return
		}
	}
}

// hintsMax bounds the nodes that are known from hints alone; a cluster has a few.
const hintsMax = 64

func (c *Client) prefer(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.nodes[address] != nil || len(c.mu.nodes) < len(c.options.Addresses)+hintsMax {
		c.mu.preferred = address
	}
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
