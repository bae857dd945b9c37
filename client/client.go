package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/connectraft/connect/internal/wire"
)

// Options say whom a client talks to. A zero value of any field but Addresses means its default.
type Options struct {
	// Addresses are the client addresses (host:port) of members; one that runs is enough. Reads
	// that any node can answer go to the first of them that works, so name the nearest first.
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
	first   *Group

	mu struct {
		sync.Mutex
		nodes  map[string]*peer // by address
		closed bool
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
	c.first = newGroup(c, 1)
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

// Write has a command applied by the first group; see [Group.Write].
func (c *Client) Write(ctx context.Context, command []byte) (Result, error) {
	return c.first.Write(ctx, command)
}

// Read has a query answered by the first group, linearizably; see [Group.Read].
func (c *Client) Read(ctx context.Context, query []byte) (Result, error) {
	return c.first.Read(ctx, query, Linearizable)
}

// OpenSession opens a session of the first group; see [Session].
func (c *Client) OpenSession(ctx context.Context) (*Session, error) {
	return c.first.OpenSession(ctx)
}

// Group returns a group by its id; the first one is 1. Keep it: it remembers where its leader is.
func (c *Client) Group(id uint64) *Group { return newGroup(c, id) }

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

// node returns the node at an address, or nil when it is one too many.
func (c *Client) node(address string) (*peer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return nil, ErrClosed
	}
	p := c.mu.nodes[address]
	if p == nil && len(c.mu.nodes) < len(c.options.Addresses)+hintsMax {
		p = newPeer(address, c.options)
		c.mu.nodes[address] = p
	}
	return p, nil
}

// hintsMax bounds the nodes that are known from hints alone; a cluster has a few.
const hintsMax = 64

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
