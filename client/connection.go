package client

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/connectraft/connect/internal/wire"
)

// connection is one TCP connection with a goroutine that reads and one that writes. Requests
// gather in a buffer while the writer is busy and leave with its next write.
type connection struct {
	socket     net.Conn
	options    Options
	goroutines sync.WaitGroup
	kick       chan struct{} // one token: the buffer has something for the writer
	down       chan struct{} // closed when the connection broke

	mu struct {
		sync.Mutex
		out     []byte // frames that were not written yet
		spare   []byte // memory of frames that were
		nextID  uint64
		waiting map[uint64]chan wire.Frame // each takes one reply
		err     error                      // why the connection broke
	}
}

func newConnection(socket net.Conn, o Options) *connection {
	c := &connection{socket: socket, options: o, kick: make(chan struct{}, 1),
		down: make(chan struct{})}
	c.mu.out = wire.AppendPreamble(nil)
	c.mu.waiting = make(map[uint64]chan wire.Frame)
	c.goroutines.Go(c.read)
	c.goroutines.Go(c.write)
	return c
}

func (c *connection) broken() bool {
	select {
	case <-c.down:
		return true
	default:
		return false
	}
}

// fail ends the connection with the first reason that is given.
func (c *connection) fail(err error) {
	c.mu.Lock()
	isFirst := c.mu.err == nil
	if isFirst {
		c.mu.err = err
	}
	c.mu.Unlock()
	if isFirst {
		close(c.down)
		_ = c.socket.Close()
	}
}

// close ends the connection and waits for its goroutines.
func (c *connection) close() {
	c.fail(net.ErrClosed)
	c.goroutines.Wait()
}

func (c *connection) roundTrip(ctx context.Context, request wire.Frame) (wire.Frame, error) {
	reply := make(chan wire.Frame, 1)
	id, err := c.enqueue(request, reply)
	if err != nil {
		return wire.Frame{}, fmt.Errorf("%w: %w", errNotSent, err)
	}
	select {
	case f := <-reply:
		return f, nil
	case <-c.down:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	c.mu.Lock()
	delete(c.mu.waiting, id)
	if err == nil {
		err = c.mu.err
	}
	c.mu.Unlock()
	select {
	case f := <-reply: // it came while the connection broke
		return f, nil
	default:
		return wire.Frame{}, fmt.Errorf("%s: %w", c.socket.RemoteAddr(), err)
	}
}

// enqueue puts a request into the buffer. From then on it may reach the node.
func (c *connection) enqueue(request wire.Frame, reply chan wire.Frame) (id uint64, err error) {
	c.mu.Lock()
	if c.mu.err != nil {
		err = c.mu.err
		c.mu.Unlock()
		return 0, err
	}
	c.mu.nextID++
	id = c.mu.nextID
	c.mu.waiting[id] = reply
	request.ID = id
	c.mu.out = wire.AppendFrame(c.mu.out, request)
	c.mu.Unlock()
	select {
	case c.kick <- struct{}{}:
	default:
	}
	return id, nil
}

// outBytesKeep bounds the memory that the connection keeps between writes.
const outBytesKeep = 1 << 20

func (c *connection) write() {
	for {
		select {
		case <-c.kick:
		case <-c.down:
			return
		}
		c.mu.Lock()
		out := c.mu.out
		c.mu.out, c.mu.spare = c.mu.spare[:0], nil
		c.mu.Unlock()
		if len(out) == 0 {
			continue
		}
		err := c.socket.SetWriteDeadline(time.Now().Add(c.options.Timeout))
		if err == nil {
			_, err = c.socket.Write(out)
		}
		if err != nil {
			c.fail(err)
			return
		}
		if cap(out) <= outBytesKeep {
			c.mu.Lock()
			c.mu.spare = out
			c.mu.Unlock()
		}
	}
}

// read hands replies to those who wait. A reply nobody waits for any more is dropped.
func (c *connection) read() {
	in := bufio.NewReaderSize(c.socket, 64<<10)
	for {
		f, err := wire.ReadFrame(in, c.options.ReplyBytes)
		if err == nil && f.Kind != wire.Reply {
			err = wire.ErrFrame
		}
		if err != nil {
			c.fail(err)
			return
		}
		c.mu.Lock()
		reply := c.mu.waiting[f.ID]
		delete(c.mu.waiting, f.ID)
		c.mu.Unlock()
		if reply != nil {
			reply <- f
		}
	}
}
