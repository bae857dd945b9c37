package transport

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"
)

// learnedMax bounds the peers that are known only because they dialled this node.
const learnedMax = 1024

// Transport is a node's end of all its peer connections. Its methods are safe for concurrent
// use.
type Transport struct {
	options    Options
	logger     *slog.Logger
	notifier   *notifier
	said       changes
	handshakes chan struct{} // a token for each connection that has not said who it is
	snapshots  chan struct{} // a token for each snapshot that is being received

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	group  sync.WaitGroup

	// peers is replaced, never changed, so that sending looks up a peer without a lock.
	peers atomic.Pointer[map[uint64]*peer]

	mu struct {
		sync.Mutex
		started, closed bool
		inbound         map[inboundKey]*inbound
		learned         map[uint64]bool // peers that SetPeer has not confirmed
		removed         map[uint64]bool // peers that RemovePeer has ruled out
	}
}

// New checks o and returns a Transport that does nothing until Start. It returns an error that
// lists every problem of o.
func New(o Options) (*Transport, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	t := &Transport{
		options:    o,
		logger:     o.Logger,
		notifier:   newNotifier(o.Handler),
		handshakes: make(chan struct{}, handshakesMax),
		snapshots:  make(chan struct{}, snapshotsMax),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.peers.Store(&map[uint64]*peer{})
	t.mu.inbound = make(map[inboundKey]*inbound)
	t.mu.learned = make(map[uint64]bool)
	t.mu.removed = make(map[uint64]bool)
	return t, nil
}

// Start accepts connections and dials the peers. Only the first call has an effect.
func (t *Transport) Start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.started || t.mu.closed {
		return
	}
	t.mu.started = true
	t.group.Go(t.acceptLoop)
	t.group.Go(func() { t.notifier.run(t.ctx) })
	for _, p := range *t.peers.Load() {
		t.runLocked(p)
	}
}

// SetPeer adds a peer or gives it another address, in which case its connections are made
// anew. It does not wait for connections. This node's own id is ignored.
func (t *Transport) SetPeer(id uint64, address string) {
	if id == t.options.NodeID {
		return
	}
	t.mu.Lock()
	delete(t.mu.removed, id)
	delete(t.mu.learned, id)
	p := (*t.peers.Load())[id]
	if p == nil {
		t.addLocked(id, address)
	}
	t.mu.Unlock()
	if p != nil {
		p.setAddress(address)
	}
}

// RemovePeer closes the connections to a peer, forgets it, and refuses its handshakes, telling
// it that it was removed, until SetPeer names it again. It does not wait for the connections to
// end, and PeerLost is called once they have if there were any.
func (t *Transport) RemovePeer(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.learned, id)
	t.mu.removed[id] = true
	p := (*t.peers.Load())[id]
	if p == nil {
		return
	}
	peers := maps.Clone(*t.peers.Load())
	delete(peers, id)
	t.peers.Store(&peers)
	p.cancel()
}

// Reconnect ends the lanes to and from a peer, so that both sides admit each other anew: for a
// handler that has learned something about the peer that AdmitPeer did not know. It does not wait.
func (t *Transport) Reconnect(id uint64) {
	t.mu.Lock()
	for lane := range uint8(laneCount) {
		if in := t.mu.inbound[inboundKey{peer: id, lane: lane}]; in != nil {
			in.conn.Close()
		}
	}
	t.mu.Unlock()
	if p := (*t.peers.Load())[id]; p != nil {
		for _, l := range p.lanes {
			l.reconnect()
		}
	}
}

// learn returns the peer that said h, adding it if this node has not heard of it: a node that
// lags behind has to answer a leader that joined after its newest entry.
func (t *Transport) learn(h hello) (*peer, refusalReason, string) {
	t.mu.Lock()
	learned := t.mu.learned[h.node]
	p, reason, text := t.learnLocked(h)
	t.mu.Unlock()
	if learned {
		p.setAddress(h.address) // nobody but the peer itself says where it is
	}
	if p != nil {
		p.heard(h.address)
	}
	return p, reason, text
}

func (t *Transport) learnLocked(h hello) (*peer, refusalReason, string) {
	if t.mu.removed[h.node] {
		return nil, removedNode, fmt.Sprintf("node %d was removed from the cluster, says node %d",
			h.node, t.options.NodeID)
	}
	if p := (*t.peers.Load())[h.node]; p != nil {
		return p, accepted, ""
	}
	if len(t.mu.learned) >= learnedMax {
		return nil, tooMany, fmt.Sprintf("node %d knows too many nodes", t.options.NodeID)
	}
	t.mu.learned[h.node] = true
	return t.addLocked(h.node, h.address), accepted, ""
}

func (t *Transport) addLocked(id uint64, address string) *peer {
	p := &peer{id: id, notifier: t.notifier}
	p.ctx, p.cancel = context.WithCancel(t.ctx)
	p.mu.told = address
	for i := range p.lanes {
		p.lanes[i] = newLane(t, p, uint8(i))
	}
	peers := maps.Clone(*t.peers.Load())
	peers[id] = p
	t.peers.Store(&peers)
	if t.mu.started && !t.mu.closed {
		t.runLocked(p)
	}
	return p
}

func (t *Transport) runLocked(p *peer) {
	for _, l := range p.lanes {
		t.group.Go(l.run)
	}
}

// SendRaft queues raft messages of one group for a peer. It never blocks. What cannot be queued
// is dropped: if the peer is unknown, if its queue is full, or if a message is larger than
// Options.MaxFrameBytes, Handler.PeerLost is called; if the peer is not connected, PeerLost is
// called before the PeerUp that follows. Ownership of msgs passes to the transport; it reads
// the messages and their entries, and never writes to them, until they are written.
//
// Votes, heartbeats, acknowledgements and read rounds overtake appends. A snapshot belongs to
// SendSnapshot.
func (t *Transport) SendRaft(to, group uint64, msgs []*raftpb.Message) {
	p := (*t.peers.Load())[to]
	if p == nil {
		if t.ctx.Err() == nil {
			t.notifier.lost(to)
		}
		return
	}
	urgent, bulk := splitLanes(msgs)
	p.send(p.lanes[laneUrgent], group, urgent)
	p.send(p.lanes[laneBulk], group, bulk)
}

// splitLanes divides messages by lane and keeps the order within each. It reuses messages.
//
// Acknowledgements of appends are urgent: they are small, the number in flight is bounded by the
// leader's window, commits wait for them, and on a follower they would share the bulk lane with
// forwarded requests of any size.
func splitLanes(messages []*raftpb.Message) (urgent, bulk []*raftpb.Message) {
	n := 0
	for _, m := range messages {
		if isUrgent(m.GetType()) {
			n++
		}
	}
	switch n {
	case 0:
		return nil, messages
	case len(messages):
		return messages, nil
	}
	urgent = make([]*raftpb.Message, 0, n)
	bulk = messages[:0]
	for _, m := range messages {
		if isUrgent(m.GetType()) {
			urgent = append(urgent, m)
		} else {
			bulk = append(bulk, m)
		}
	}
	return urgent, bulk
}

func isUrgent(t raftpb.MessageType) bool {
	switch t {
	case raftpb.MsgApp, raftpb.MsgProp, raftpb.MsgSnap:
		return false
	}
	return true
}

// Send queues an opaque frame on the bulk lane. An error (ErrUnknownPeer, ErrNotConnected,
// ErrQueueFull, ErrFrameTooLarge or ErrClosed) means that it was surely not sent. After nil it
// may arrive; if the stream breaks before it does, PeerLost is called afterwards. Ownership of
// payload passes to the transport unless an error is returned.
func (t *Transport) Send(to, group uint64, kind Kind, payload []byte) error {
	return t.send(to, group, kind, payload, laneBulk)
}

// SendUrgent is Send on the lane of votes and heartbeats, which bulk never delays and on which it
// keeps its place among them. It is for small frames.
func (t *Transport) SendUrgent(to, group uint64, kind Kind, payload []byte) error {
	return t.send(to, group, kind, payload, laneUrgent)
}

func (t *Transport) send(to, group uint64, kind Kind, payload []byte, lane uint8) error {
	if t.ctx.Err() != nil {
		return ErrClosed
	}
	p := (*t.peers.Load())[to]
	if p == nil {
		return ErrUnknownPeer
	}
	cost := int64(len(payload)) + messageCost
	if cost > t.options.MaxFrameBytes {
		return ErrFrameTooLarge
	}
	i := item{group: group, kind: kind, payload: payload, cost: cost}
	err := p.lanes[lane].queue.push(i)
	if err != nil {
		p.drops.Add(1)
	}
	return err
}

// Peers returns the ids of the known peers that are connected, in no order.
func (t *Transport) Peers() []uint64 {
	peers := *t.peers.Load()
	ids := make([]uint64, 0, len(peers))
	for id, p := range peers {
		if p.connected() {
			ids = append(ids, id)
		}
	}
	return ids
}

// Stats describes every known peer, ordered by id.
func (t *Transport) Stats() []PeerStats {
	heard := map[uint64]bool{}
	t.mu.Lock()
	for key := range t.mu.inbound {
		heard[key.peer] = true
	}
	t.mu.Unlock()
	peers := *t.peers.Load()
	stats := make([]PeerStats, 0, len(peers))
	for _, id := range slices.Sorted(maps.Keys(peers)) {
		s := peers[id].stats()
		s.Heard = heard[id]
		stats = append(stats, s)
	}
	return stats
}

// Close ends all connections and waits for the transport's goroutines, including handlers that
// it runs; it must not be called from one. What is still queued is dropped. No handler is
// called after Close has returned. It is idempotent.
func (t *Transport) Close() error {
	t.mu.Lock()
	first, started := !t.mu.closed, t.mu.started
	t.mu.closed = true
	t.mu.Unlock()
	var err error
	if first {
		t.cancel()
		if started {
			err = t.options.Listener.Close()
		}
	}
	t.group.Wait()
	return err
}
