package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

const (
	// handshakesMax bounds connections that have not said who they are.
	handshakesMax = 64
	// snapshotsMax bounds the snapshot streams that are received at once.
	snapshotsMax = 64
	// acceptPause is how long accepting rests after an error, such as too many open files.
	acceptPause = 50 * time.Millisecond
)

// inbound is an accepted connection of a lane that stays. Only the newest of a peer and lane
// counts: a peer that dials again has given up the one before, even if this node has not yet
// noticed.
type inbound struct {
	conn net.Conn
	done chan struct{} // closed when nothing more is delivered from conn
}

type inboundKey struct {
	peer uint64
	lane uint8
}

// acceptLoop accepts until the listener is closed.
func (t *Transport) acceptLoop() {
	trouble := "" // as last logged; empty while connections can be accepted
	for {
		conn, err := t.options.Listener.Accept()
		if t.ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			if reason := reasonOf(err); reason != trouble {
				trouble = reason
				t.logger.Error("peer connections cannot be accepted", "node", t.options.NodeID,
					"address", t.options.Address, "reason", reason)
			}
			if errors.Is(err, net.ErrClosed) || !t.pause(acceptPause) {
				return
			}
			continue
		}
		trouble = ""
		select {
		case t.handshakes <- struct{}{}:
			t.group.Go(func() { t.receive(conn) })
		default:
			conn.Close()
			t.refused(conn, "handshakes", "too many connections without a handshake")
		}
	}
}

func (t *Transport) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.ctx.Done():
		return false
	}
}

// receive serves an accepted connection from its first byte to its last.
func (t *Transport) receive(conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(t.ctx, func() { conn.Close() })
	defer stop()
	h, p, err := t.welcome(conn)
	<-t.handshakes
	if err != nil {
		return
	}
	stopPeer := context.AfterFunc(p.ctx, func() { conn.Close() })
	defer stopPeer()
	if h.lane == laneSnapshot {
		t.receiveSnapshots(conn, p)
		return
	}
	t.receiveLane(conn, p, h)
}

// welcome is the acceptor's side of the handshake up to the decision. A refusal is answered
// here; acceptance is answered once the connection before it has ended.
func (t *Transport) welcome(conn net.Conn) (hello, *peer, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return hello{}, nil, err
	}
	h, err := readHello(conn)
	if err != nil {
		t.refused(conn, "stranger", reasonOf(err))
		return hello{}, nil, err
	}
	reason, text := t.judge(h)
	var p *peer
	if reason == accepted {
		p, reason, text = t.learn(h)
	}
	if reason == accepted {
		return h, p, nil
	}
	w := t.reply()
	w.reason, w.text = reason, text
	_, err = conn.Write(w.encode())
	if t.said.news(fmt.Sprintf("refusal %d %s", h.node, h.address), text) {
		t.logger.Warn("peer refused", "node", t.options.NodeID, "address", t.options.Address,
			"peer", h.node, "peer_address", h.address, "remote", conn.RemoteAddr().String(),
			"reason", reason.String(), "detail", text)
	}
	return h, nil, errors.Join(&refusedError{reason: reason, node: h.node, text: text}, err)
}

func (t *Transport) reply() welcome {
	return welcome{
		version: protocolVersion, node: t.options.NodeID,
		incarnation: t.options.Incarnation, cluster: t.options.ClusterID,
	}
}

// refused logs a connection that was closed without an answer, once for each host and reason.
func (t *Transport) refused(conn net.Conn, subject, reason string) {
	if t.ctx.Err() != nil {
		return
	}
	remote := conn.RemoteAddr().String()
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	if t.said.news(subject+" "+host, reason) {
		t.logger.Warn("connection closed", "node", t.options.NodeID, "address", t.options.Address,
			"remote", remote, "reason", reason)
	}
}

// answer completes the handshake and lifts its deadline.
func (t *Transport) answer(conn net.Conn) error {
	if _, err := conn.Write(t.reply().encode()); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// receiveLane takes the place of the lane's connection before it and delivers frames until the
// connection breaks.
func (t *Transport) receiveLane(conn net.Conn, p *peer, h hello) {
	key := inboundKey{peer: p.id, lane: h.lane}
	in := &inbound{conn: conn, done: make(chan struct{})}
	defer close(in.done)
	if older := t.replaceInbound(key, in); older != nil {
		// The order of a stream includes that the older connection's frames come first.
		older.conn.Close()
		<-older.done
	}
	defer t.forgetInbound(key, in)
	if err := t.answer(conn); err != nil {
		return
	}
	for _, l := range p.lanes {
		l.hurry()
	}
	t.said.news(fmt.Sprintf("refusal %d %s", h.node, h.address), "")
	err := t.deliver(conn, p, h.lane)
	if p.ctx.Err() != nil {
		return
	}
	p.lastFailed(err)
	if errors.Is(err, errDamaged) {
		p.damaged.Add(1)
		t.logPeer(slog.LevelError, "damaged frame from peer, connection closed", p,
			"remote", conn.RemoteAddr().String(), "reason", reasonOf(err))
	}
	// Answers of the peer travelled on this connection: those not yet here may be lost.
	t.notifier.lost(p.id)
}

func (t *Transport) replaceInbound(key inboundKey, in *inbound) *inbound {
	t.mu.Lock()
	defer t.mu.Unlock()
	older := t.mu.inbound[key]
	t.mu.inbound[key] = in
	return older
}

func (t *Transport) forgetInbound(key inboundKey, in *inbound) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.inbound[key] == in {
		delete(t.mu.inbound, key)
	}
}

// deliver hands the frames of a lane to the handler in order.
func (t *Transport) deliver(conn net.Conn, p *peer, lane uint8) error {
	r := newFrameReader(conn, t.options.MaxFrameBytes, readBufferBytes)
	r.onRefresh = func() error { return sendSign(conn) }
	for {
		h, payload, err := r.next()
		if err != nil {
			return err
		}
		p.received(payload)
		switch {
		case h.frameType == framePing:
		case h.frameType == frameRaft:
			messages, err := decodeMessages(payload, t.options.MaxFrameBytes)
			if err != nil {
				return err
			}
			t.options.Handler.HandleRaft(p.id, h.group, messages)
		case h.frameType == frameRequest:
			t.options.Handler.HandleRequest(p.id, h.group, h.kind, payload)
		default:
			return fmt.Errorf("%w: type %d in lane %d", errDamaged, h.frameType, lane)
		}
	}
}

// sendSign tells the dialler that its bytes are being read. The direction carries nothing else,
// so it never blocks in practice; a deadline covers the rest.
func sendSign(w net.Conn) error {
	if err := w.SetWriteDeadline(time.Now().Add(hungTimeout)); err != nil {
		return err
	}
	_, err := w.Write(pingFrame())
	return err
}
