package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"time"

	"github.com/connectraft/connect/internal/wire"
	"github.com/connectraft/connect/node"
)

const (
	frameLines     = 8        // lines of requests; see frameConn
	frameWindow    = 1024     // requests of one line that are started and not answered
	frameReplies   = 64       // replies that wait for the writer
	frameBufferMax = 64 << 10 // replies are collected up to this size into one write
)

// frameConn serves one connection of the binary protocol. Its own goroutine reads requests and
// starts them. They stand in lines, by group and by what they wait for, and one goroutine for each
// line that is in use waits for its requests in the order in which they were started: a slow read
// does not hold up the replies to writes, nor one group those of another. One goroutine writes.
// When a line is full the reader stops reading, which is how a client is slowed down.
type frameConn struct {
	server  *Server
	conn    net.Conn
	in      *bufio.Reader
	lines   [frameLines]chan frameCall // the reader's; nil = not in use
	waiters sync.WaitGroup             // one for each line
	replies chan wire.Frame
}

// frameCall is one request on its way.
type frameCall struct {
	id      uint64
	group   *node.Group
	kind    commandKind
	call    *node.Call  // of a command of the service, which was started
	session *wire.Frame // opens or closes a session, when its turn comes; nil = it is a command
	started time.Time
}

// newFrameConn makes a connection of which the bytes first were read already.
func newFrameConn(s *Server, conn net.Conn, first []byte) *frameConn {
	c := &frameConn{
		server:  s,
		conn:    conn,
		in:      bufio.NewReader(io.MultiReader(bytes.NewReader(first), conn)),
		replies: make(chan wire.Frame, frameReplies),
	}
	return c
}

func (c *frameConn) serve() {
	var writer sync.WaitGroup
	writer.Go(c.write)
	err := c.read()
	for _, line := range c.lines {
		if line != nil {
			close(line)
		}
	}
	c.waiters.Wait()
	close(c.replies)
	writer.Wait()
	if err != nil {
		c.server.metrics.protocolErrors.Inc()
		c.server.logger.Warn("client connection closed", "client", c.conn.RemoteAddr(), "error", err)
	}
}

// read starts requests until the connection ends; an error means that the client broke the
// protocol.
func (c *frameConn) read() error {
	if err := wire.ReadPreamble(c.in); err != nil {
		return protocolFault(err)
	}
	limit := int(c.server.config.Limits.Command) + wire.Overhead
	for {
		f, err := c.readFrame(limit)
		if err != nil {
			return protocolFault(err)
		}
		if f.Kind == wire.Reply {
			return wire.ErrFrame
		}
		if status, text := c.request(f); status != wire.OK {
			c.server.metrics.refused.Inc()
			c.replies <- wire.Frame{ID: f.ID, Kind: wire.Reply, Status: status,
				Payload: []byte(text)}
		}
	}
}

// request starts one request, or says why not.
func (c *frameConn) request(f wire.Frame) (wire.Status, string) {
	group := c.server.groupOf(f.Group)
	if group == nil {
		return wire.NoGroup, noGroup(f.Group)
	}
	call := frameCall{id: f.ID, group: group, started: time.Now()}
	line := lineWrites
	switch f.Kind {
	case wire.OpenSession, wire.CloseSession:
		session := f // of its own, so that a command's frame stays where it is
		line, call.session = lineSessions, &session
	case wire.Read:
		line, call.kind = lineReads+int(f.Level), kindRead
	}
	if call.session == nil {
		if err := c.server.service.check(f.Payload, call.kind); err != nil {
			return wire.Refused, err.Error()
		}
		call.call = start(group, f)
	}
	c.line(f.Group, line) <- call
	return wire.OK, ""
}

// start gives a command to the log or a query to the state machine.
func start(g *node.Group, f wire.Frame) *node.Call {
	switch {
	case f.Kind == wire.Read:
		return g.GoRead(f.Payload, readLevel(f.Level, f.Bound))
	case f.Session != 0:
		return g.GoSession(f.Session, f.Sequence, f.Acked, f.Payload)
	}
	return g.Go(f.Payload)
}

// outcome waits for the end of a request.
func (c *frameCall) outcome(ctx context.Context) (node.Result, error) {
	switch {
	case c.session == nil:
		return c.call.Wait(ctx)
	case c.session.Kind == wire.CloseSession:
		return node.Result{}, c.group.CloseSession(ctx, c.session.Session)
	}
	session, err := c.group.OpenSession(ctx)
	if err != nil {
		return node.Result{}, err
	}
	return node.Result{Answer: wire.AppendSession(nil, session.ID())}, nil
}

// readLevel says a level of the protocol in the node's terms.
func readLevel(level wire.Level, bound uint64) node.ReadLevel {
	switch level {
	case wire.Lease:
		return node.Lease
	case wire.AtLeast:
		return node.AtLeast(bound)
	case wire.Stale:
		const max = uint64(math.MaxInt64 / time.Microsecond)
		return node.Stale(time.Duration(min(bound, max)) * time.Microsecond)
	}
	return node.Linearizable
}

// The lines of one group. Those of several groups share what lines there are.
const (
	lineWrites   = 0
	lineSessions = 1
	lineReads    = 2 // and the level
	linesOfGroup = 6
)

// line returns the line of a kind of requests of a group. The first one takes it into use.
func (c *frameConn) line(group uint64, kind int) chan<- frameCall {
	line := &c.lines[(max(group, 1)*linesOfGroup+uint64(kind))%frameLines]
	if *line == nil {
		calls := make(chan frameCall, frameWindow)
		*line = calls
		c.waiters.Go(func() { c.wait(calls) })
	}
	return *line
}

// readFrame takes memory for a large frame out of the budget that all connections share, until
// the frame is there.
func (c *frameConn) readFrame(limit int) (wire.Frame, error) {
	header, err := c.in.Peek(wire.LengthBytes)
	if err != nil {
		return wire.Frame{}, err
	}
	if length := wire.Length(header); length > inBytesKeep && int64(length) <= int64(limit) {
		memory := c.server.clients.memory
		if !memory.TryAcquire(int64(length)) {
			return wire.Frame{}, errNoMemory
		}
		defer memory.Release(int64(length))
	}
	return wire.ReadFrame(c.in, limit)
}

// protocolFault returns err if it is the fault of what the client sent, and nil for a connection
// that just ended.
func protocolFault(err error) error {
	_, isSize := errors.AsType[*wire.SizeError](err)
	for _, fault := range []error{wire.ErrPreamble, wire.ErrChecksum, wire.ErrFrame,
		errNoMemory} {
		if isSize || errors.Is(err, fault) {
			return err
		}
	}
	return nil
}

// wait answers the calls of one line in the order in which they were started. Calls that were
// started at about the same time share a context, because one costs as much as the rest of a call.
func (c *frameConn) wait(calls <-chan frameCall) {
	timeout := c.server.config.Limits.RequestTimeout
	ctx, cancel := context.WithCancel(context.Background())
	var shared time.Time
	for call := range calls {
		if call.started.Sub(shared) > timeout/100 {
			cancel()
			shared = call.started
			ctx, cancel = context.WithDeadline(context.Background(), shared.Add(timeout))
		}
		result, err := call.outcome(ctx)
		if call.session == nil {
			c.server.metrics.observe(call.kind, err, time.Since(call.started))
		}
		c.replies <- c.reply(call, result, err)
	}
	cancel()
}

func (c *frameConn) reply(call frameCall, result node.Result, err error) wire.Frame {
	f := wire.Frame{ID: call.id, Kind: wire.Reply, Index: result.Index, Payload: result.Answer,
		Leader: c.server.leaderHint(call.group)}
	if err == nil {
		return f
	}
	failure := c.server.failure(err, call.kind)
	f.Status, f.Payload = failure.status, []byte(failure.text)
	return f
}

// write sends replies, all that wait with one write. After an error it only takes them, so that
// nobody waits for it, and the reader finds the connection closed.
func (c *frameConn) write() {
	var out []byte
	var failed bool
	for f := range c.replies {
		out = wire.AppendFrame(out[:0], f)
		for more := true; more && len(out) < frameBufferMax; {
			select {
			case f, more = <-c.replies:
				if more {
					out = wire.AppendFrame(out, f)
				}
			default:
				more = false
			}
		}
		if !failed && c.send(out) != nil {
			failed = true
			_ = c.conn.Close()
		}
		if cap(out) > 2*frameBufferMax {
			out = nil
		}
	}
}

func (c *frameConn) send(b []byte) error {
	deadline := time.Now().Add(c.server.config.Limits.RequestTimeout)
	if err := c.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := c.conn.Write(b)
	return err
}
