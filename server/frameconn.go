package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/connectraft/connect/internal/wire"
	"github.com/connectraft/connect/node"
)

const (
	frameWindow    = 1024     // requests of one kind that are started and not answered
	frameReplies   = 64       // replies that wait for the writer
	frameBufferMax = 64 << 10 // replies are collected up to this size into one write
)

// frameConn serves one connection of the binary protocol. Its own goroutine reads requests and
// starts them; one goroutine for each kind waits for them in the order in which they were started,
// so that a slow read does not hold up the replies to writes; one goroutine writes. When a window
// is full the reader stops reading, which is how a client is slowed down.
type frameConn struct {
	server  *Server
	conn    net.Conn
	in      *bufio.Reader
	calls   [2]chan frameCall // by commandKind
	replies chan wire.Frame
}

type frameCall struct {
	id      uint64
	call    *node.Call
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
	for kind := range c.calls {
		c.calls[kind] = make(chan frameCall, frameWindow)
	}
	return c
}

func (c *frameConn) serve() {
	var waiters, writer sync.WaitGroup
	for kind := range c.calls {
		waiters.Go(func() { c.wait(commandKind(kind)) })
	}
	writer.Go(c.write)
	err := c.read()
	for _, calls := range c.calls {
		close(calls)
	}
	waiters.Wait()
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
		kind, ok := requestKind(f.Kind)
		if !ok {
			return wire.ErrFrame
		}
		if err := c.server.service.check(f.Payload, kind); err != nil {
			c.server.metrics.refused.Inc()
			c.replies <- wire.Frame{ID: f.ID, Kind: wire.Reply, Status: wire.Refused,
				Payload: []byte(err.Error())}
			continue
		}
		call := c.server.start(f.Payload, kind)
		c.calls[kind] <- frameCall{id: f.ID, call: call, started: time.Now()}
	}
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

func requestKind(k wire.Kind) (kind commandKind, ok bool) {
	switch k {
	case wire.Write:
		return kindWrite, true
	case wire.Read:
		return kindRead, true
	}
	return 0, false
}

// wait answers the calls of one kind in the order in which they were started. Calls that were
// started at about the same time share a context, because one costs as much as the rest of a call.
func (c *frameConn) wait(kind commandKind) {
	timeout := c.server.config.Limits.RequestTimeout
	ctx, cancel := context.WithCancel(context.Background())
	var shared time.Time
	for call := range c.calls[kind] {
		if call.started.Sub(shared) > timeout/100 {
			cancel()
			shared = call.started
			ctx, cancel = context.WithDeadline(context.Background(), shared.Add(timeout))
		}
		result, err := call.call.Wait(ctx)
		c.server.metrics.observe(kind, err, time.Since(call.started))
		c.replies <- c.reply(call.id, kind, result, err)
	}
	cancel()
}

func (c *frameConn) reply(id uint64, kind commandKind, result node.Result, err error) wire.Frame {
	f := wire.Frame{ID: id, Kind: wire.Reply, Index: result.Index, Payload: result.Answer,
		Leader: c.server.leaderHint()}
	if err == nil {
		return f
	}
	failure := c.server.failure(err, kind)
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
