package server

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/tidwall/redcon"

	"github.com/connectraft/connect/internal/wire"
	"github.com/connectraft/connect/node"
)

const (
	windowCommands = 1024      // started and not answered, per connection
	windowReads    = 16        // the same for reads at first; see adapt
	windowBytes    = 1 << 20   // of the answers to one window of reads, as far as that can be known
	arenaBytes     = 4 << 10   // commands are encoded into pieces of memory of this size
	outBytesFlush  = 256 << 10 // replies are sent before the end of a batch when there are so many
	outBytesKeep   = 64 << 10  // a larger buffer of replies is given back
)

// respConn serves one RESP connection, on one goroutine. What a client sent without waiting is one
// batch: every command of it is started before the first is waited for, and the replies leave in
// one write. The commands that are in flight at a time are all of one kind, so that a read sees
// the writes that were sent before it and none that were sent after it.
type respConn struct {
	server *Server
	conn   net.Conn
	group  *node.Group // as chosen by SELECT
	id     int64
	in     *inBuffer
	parser respParser

	calls   []respCall  // in flight, in the order of their replies
	kind    commandKind // of all of calls
	started time.Time   // when the first of calls was
	reads   int         // started and not answered, at most windowCommands
	arena   []byte      // its unused capacity takes the next encoded command
	out     []byte      // replies that were not sent yet
	closing bool        // nothing more is read
}

// respCall is one reply to come: that of a call, or one that is known already.
type respCall struct {
	call    *node.Call
	payload []byte // of a write
	reply   []byte
}

func newRespConn(s *Server, conn net.Conn, id int64, in *inBuffer) *respConn {
	return &respConn{server: s, conn: conn, group: s.group, id: id, in: in, reads: windowReads,
		parser: respParser{bytesMax: int(s.config.Limits.Command)}}
}

// serve answers commands until the client leaves, breaks the protocol, or the server stops.
func (c *respConn) serve() {
	for {
		c.batch()
		if err := c.flush(); err != nil {
			return
		}
		if c.closing {
			c.linger()
			return
		}
		err := c.in.fill(c.conn)
		if err == errNoMemory {
			c.end(err)
			continue
		}
		if err != nil {
			return
		}
	}
}

// end makes err the last answer.
func (c *respConn) end(err error) {
	c.server.metrics.protocolErrors.Inc()
	c.closing = true
	c.reply(redcon.AppendError(nil, err.Error()))
}

// batch answers every whole command that has come.
func (c *respConn) batch() {
	for !c.closing {
		words, size, err := c.parser.next(c.in.unused())
		if err != nil {
			c.end(err)
			break
		}
		if size == 0 {
			break
		}
		if len(words) > 0 {
			c.command(words)
		}
		c.in.use(size)
	}
	c.settle()
}

// command starts one command, or puts its reply in the line when nothing has to be waited for.
func (c *respConn) command(words [][]byte) {
	spec := c.server.service.commands.find(words[0])
	if spec == nil {
		c.other(words)
		return
	}
	if !spec.accepts(len(words)) {
		c.refuse(wrongArity(spec.name))
		return
	}
	if len(c.calls) >= c.window(spec.kind) || (c.kind != spec.kind && len(c.calls) > 0) {
		c.settle()
	}
	if len(c.calls) == 0 {
		c.kind, c.started = spec.kind, time.Now()
	}
	payload := c.encode(spec.name, words[1:])
	c.calls = append(c.calls,
		respCall{call: startCommand(c.group, payload, spec.kind), payload: payload})
}

// other answers what the service did not declare.
func (c *respConn) other(words [][]byte) {
	if reply, ok := c.builtin(nil, words); ok {
		c.server.metrics.builtin.Inc()
		c.reply(reply)
		return
	}
	// A web page can make a browser send a request here whose body holds commands. No client of
	// ours begins so, hence such a connection is closed before the body is reached.
	if name := strings.ToLower(string(words[0])); name == "post" || name == "host:" {
		c.closing = true
	}
	c.refuse(unknownCommand(words[0], words[1:]))
}

func (c *respConn) refuse(text string) {
	c.server.metrics.refused.Inc()
	c.reply(redcon.AppendError(nil, text))
}

// reply puts a finished reply in the line. Commands of two bytes have replies of dozens, so the line
// and what is not sent yet are bounded here too and not by what the client has sent alone.
func (c *respConn) reply(reply []byte) {
	if len(c.calls) == windowCommands {
		c.settle()
	}
	if len(c.calls) == 0 {
		c.out = append(c.out, reply...)
		if len(c.out) >= outBytesFlush {
			c.flushEarly()
		}
		return
	}
	c.calls = append(c.calls, respCall{reply: reply})
}

// encode returns the command in the form of the log. Its memory is not touched again here, because
// it belongs to the node now.
func (c *respConn) encode(name string, args [][]byte) []byte {
	size := wire.CommandBytes(name, args)
	if cap(c.arena)-len(c.arena) < size {
		c.arena = make([]byte, 0, max(arenaBytes, size))
	}
	start := len(c.arena)
	c.arena = wire.AppendCommand(c.arena, name, args)
	return c.arena[start:len(c.arena):len(c.arena)]
}

// window returns how many commands of a kind may be in flight.
func (c *respConn) window(kind commandKind) int {
	if kind == kindRead {
		return c.reads
	}
	return windowCommands
}

// adapt makes the window of reads fit the answers to the last one. The answers of a window are in
// memory together, and a read of a few bytes may have an answer of a MiB: a connection whose answers
// are large asks for few at a time, and one whose answers are small soon for as many as it likes.
func (c *respConn) adapt(count, bytes int) {
	switch {
	case bytes > windowBytes:
		c.reads = max(1, min(c.reads, count*windowBytes/bytes))
	case count >= c.reads:
		c.reads = min(2*c.reads, windowCommands)
	}
}

// settle waits for everything in flight and appends the replies.
func (c *respConn) settle() {
	if len(c.calls) == 0 {
		return
	}
	timeout := c.server.config.Limits.RequestTimeout
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	answers := 0
	for i, waiting := range c.calls {
		if waiting.call == nil {
			c.out = append(c.out, waiting.reply...)
			continue
		}
		result, err := waiting.call.Wait(ctx)
		_, lost := errors.AsType[*node.NotLeaderError](err)
		if lost && c.kind == kindWrite && i == len(c.calls)-1 {
			// The leader changed and the command is surely not applied. Nothing was sent behind
			// it on this connection, so trying it again keeps the order.
			result, err = c.group.Propose(ctx, waiting.payload)
		}
		c.server.metrics.observe(c.kind, err, time.Since(c.started))
		if err == nil {
			answers += len(result.Answer)
			c.out = append(c.out, result.Answer...)
		} else {
			c.out = redcon.AppendError(c.out, c.server.failure(err, c.kind).text)
		}
		if len(c.out) >= outBytesFlush {
			c.flushEarly()
		}
	}
	if c.kind == kindRead {
		c.adapt(len(c.calls), answers)
	}
	clear(c.calls)
	c.calls = c.calls[:0]
}

// flushEarly bounds the memory of replies; when it fails the next flush fails too.
func (c *respConn) flushEarly() {
	if err := c.flush(); err != nil {
		c.closing = true
	}
}

// flush sends the replies with one write.
func (c *respConn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	deadline := time.Now().Add(c.server.config.Limits.RequestTimeout)
	if err := c.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	if cap(c.out) > outBytesKeep {
		c.out = nil
	}
	return err
}

const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// linger ends a connection that the server closes on its own account. What the client is still
// sending is read for a moment: closing a socket with unread bytes resets the connection, and the
// client would lose the reply that tells it why.
func (c *respConn) linger() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.server.clients.stopping() {
		return
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(lingerTime)); err != nil {
		return
	}
	_, err := io.CopyN(io.Discard, c.conn, lingerBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		c.server.logger.Debug("client connection ended", "client", c.conn.RemoteAddr(), "error", err)
	}
}
