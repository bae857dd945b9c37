package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// peer is what the transport knows of another node: where it is, the streams to it, and how
// they fare. It lives from SetPeer, or the peer's first handshake, to RemovePeer.
type peer struct {
	id       uint64
	lanes    [laneCount]*lane
	notifier *notifier
	ctx      context.Context // ends when the peer is removed or the transport closed
	cancel   context.CancelFunc

	sentFrames, sentBytes         atomic.Uint64
	receivedFrames, receivedBytes atomic.Uint64
	drops, damaged                atomic.Uint64

	mu struct {
		sync.Mutex
		told string // where SetPeer, or else its first handshake, says that it is
		said string // where its newest handshake says that it is; empty before one
		// moved is the other address of a peer that was heard to change it: said, when it is not
		// told. It is empty for a peer that others are told to reach elsewhere than it is, as
		// behind a relay, because that says the same all the time.
		moved       string
		tryMoved    bool // the next dial goes to moved
		laneUp      [laneCount]bool
		incarnation uint64
		// reasons tell why each lane is not connected; they are empty while the peer is.
		reasons     [laneCount]string
		lastError   string
		lastErrorAt time.Time
	}
}

// address is where the peer is dialled.
func (p *peer) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addressLocked()
}

func (p *peer) addressLocked() string {
	if p.mu.tryMoved {
		return p.mu.moved
	}
	return p.mu.told
}

// setAddress makes the lanes dial the new address at once if it is another one.
func (p *peer) setAddress(address string) {
	p.mu.Lock()
	if address == p.mu.told {
		p.mu.Unlock()
		return
	}
	dialled := p.addressLocked()
	p.mu.told, p.mu.tryMoved = address, false
	if p.mu.moved == address {
		p.mu.moved = "" // else it stays: what is told may be older than what was heard
	}
	p.mu.Unlock()
	if address == dialled {
		return
	}
	for _, l := range p.lanes {
		l.reconnect()
	}
}

// heard notes where the peer says that it is. One that has moved can be a voter of a majority that
// somebody has to lead before anybody can be told its new address.
func (p *peer) heard(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.mu.said
	p.mu.said = address
	switch {
	case address == p.mu.told:
		p.mu.moved, p.mu.tryMoved = "", false
	case before != "" && before != address:
		p.mu.moved = address // dialled once told fails: a peer that was copied may run twice
	}
}

// missed has the next dial of a peer that has moved go to the other of its addresses.
func (p *peer) missed(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.moved != "" {
		p.mu.tryMoved = address == p.mu.told
	}
}

// established records a lane's connection. It reports whether it completes the peer, and has
// told the handler so. The notifier is called under the mutex, so that the handler hears of the
// lanes in the order in which they changed; it does no more than note it.
func (p *peer) established(lane uint8, incarnation uint64) (complete bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.laneUp[lane] = true
	p.mu.incarnation = incarnation
	if !p.connectedLocked() {
		return false
	}
	p.mu.reasons = [laneCount]string{}
	p.notifier.up(p.id, incarnation)
	return true
}

// down records the end of a lane's connection and tells the handler.
func (p *peer) down(lane uint8) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.laneUp[lane] = false
	p.notifier.down(p.id)
}

func (p *peer) connected() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.connectedLocked()
}

func (p *peer) connectedLocked() bool {
	return p.mu.laneUp[laneUrgent] && p.mu.laneUp[laneBulk]
}

// broken records why a lane has no connection and reports whether that is news. Both lanes
// usually fail for the same reason, and again on each retry; that is one line.
func (p *peer) broken(lane uint8, err error) (news bool) {
	reason := reasonOf(err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.lastError, p.mu.lastErrorAt = reason, time.Now()
	known := slices.Contains(p.mu.reasons[:], reason)
	p.mu.reasons[lane] = reason
	return !known
}

// received counts a frame.
func (p *peer) received(payload []byte) {
	p.receivedFrames.Add(1)
	p.receivedBytes.Add(uint64(frameHeaderBytes + len(payload)))
}

// lastFailed records why a connection from the peer ended.
func (p *peer) lastFailed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.lastError, p.mu.lastErrorAt = reasonOf(err), time.Now()
}

// send queues messages on a lane as frames of about batchBytes, all or none.
func (p *peer) send(l *lane, group uint64, messages []*raftpb.Message) {
	if len(messages) == 0 {
		return
	}
	var space [4]item
	items, err := cutFrames(space[:0], group, messages, l.transport.options.MaxFrameBytes)
	if err == nil {
		err = l.queue.push(items...)
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrNotConnected):
		p.drops.Add(uint64(len(items))) // PeerLost follows when the lane is connected again
	default:
		p.drops.Add(uint64(max(len(items), 1)))
		p.notifier.lost(p.id)
		l.logDrop(group, err)
	}
}

// cutFrames divides messages into frames and appends them to items.
func cutFrames(
	items []item, group uint64, messages []*raftpb.Message, limit int64,
) ([]item, error) {
	aim := min(batchBytes, limit)
	first, cost := 0, int64(0)
	for i, m := range messages {
		if err := checkMessage(m); err != nil {
			return nil, err
		}
		c := costOf(m)
		if c > limit {
			return nil, fmt.Errorf("%w: %v of %d bytes, limit %d",
				ErrFrameTooLarge, m.GetType(), c, limit)
		}
		if i > first && cost+c > aim {
			items = append(items, item{group: group, messages: messages[first:i:i], cost: cost})
			first, cost = i, 0
		}
		cost += c
	}
	return append(items, item{group: group, messages: messages[first:], cost: cost}), nil
}

func (p *peer) stats() PeerStats {
	s := PeerStats{
		ID:             p.id,
		SentFrames:     p.sentFrames.Load(),
		SentBytes:      p.sentBytes.Load(),
		ReceivedFrames: p.receivedFrames.Load(),
		ReceivedBytes:  p.receivedBytes.Load(),
		Drops:          p.drops.Load(),
		Damaged:        p.damaged.Load(),
	}
	for _, l := range p.lanes {
		s.QueueBytes += l.queue.bytes()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Address = p.addressLocked()
	s.Connected = p.connectedLocked()
	s.Incarnation = p.mu.incarnation
	s.LastError, s.LastErrorAt = p.mu.lastError, p.mu.lastErrorAt
	return s
}

// reasonOf describes err without the ephemeral ports of net.OpError, so that the same failure
// reads the same on each retry.
func reasonOf(err error) string {
	if errors.Is(err, io.EOF) {
		return "closed by the peer"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		if op.Op != "dial" && op.Timeout() {
			return op.Op + ": no progress and no sign of life within the time limit"
		}
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// changes remembers what was last said about a subject, so that it is said once.
type changes struct {
	mu struct {
		sync.Mutex
		last map[string]string
	}
}

// changesMax bounds the subjects, which strangers choose by their address. Beyond it all are
// forgotten, which costs repeated lines and nothing else.
const changesMax = 1024

func (c *changes) news(subject, what string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.last == nil || len(c.mu.last) >= changesMax {
		c.mu.last = make(map[string]string)
	}
	last, known := c.mu.last[subject]
	c.mu.last[subject] = what
	return !known || last != what
}

func (t *Transport) logPeer(level slog.Level, message string, p *peer, args ...any) {
	args = append([]any{
		"node", t.options.NodeID, "peer", p.id, "peer_address", p.address(),
	}, args...)
	t.logger.Log(context.Background(), level, message, args...)
}
