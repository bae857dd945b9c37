package node

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// EventKind names what has happened. The values are part of the interface: they appear in JSON.
type EventKind string

const (
	// LeaderChanged: Peer leads the group in Term; 0 = nobody is known to.
	LeaderChanged EventKind = "leader_changed"
	// MembershipChanged: the configuration of the entry at Index is in force; Detail lists it.
	MembershipChanged EventKind = "membership_changed"

	// SnapshotCut: this node has written a snapshot up to Index, of Bytes, in Took.
	SnapshotCut EventKind = "snapshot_cut"
	// SnapshotSent: Peer has made the snapshot up to Index durable.
	SnapshotSent EventKind = "snapshot_sent"
	// SnapshotReceived: the snapshot up to Index came from Peer and is durable here.
	SnapshotReceived EventKind = "snapshot_received"
	// SnapshotRestored: the state machine holds the snapshot up to Index that a leader sent.
	SnapshotRestored EventKind = "snapshot_restored"
	// SnapshotFailed: one of these did not happen; Detail says which and why. It is tried again.
	SnapshotFailed EventKind = "snapshot_failed"

	// DamageFound: the group's log or a snapshot of it cannot be read; Detail says where.
	DamageFound EventKind = "damage_found"
	// DamageMended: what was missing in the log up to Index came from Peer.
	DamageMended EventKind = "damage_mended"
	// GroupFenced: the log has lost its end, so the group does not vote until it is whole.
	GroupFenced EventKind = "group_fenced"
	// GroupUnfenced: the log is whole again.
	GroupUnfenced EventKind = "group_unfenced"

	// DiskFull: this node takes no commands until there is room.
	DiskFull EventKind = "disk_full"
	// DiskRoom: there is room again.
	DiskRoom EventKind = "disk_room"
	// DiskHung: a sync of the log has been under way for Took; leaderships are handed over.
	DiskHung EventKind = "disk_hung"
	// DiskReturned: that sync has returned.
	DiskReturned EventKind = "disk_returned"
	// SlowStage: the stage that Detail names, [StageApply], [StageLog] or [StageLoop], has taken
	// longer for one step than Options.SlowStage, namely Took.
	SlowStage EventKind = "slow_stage"

	// GroupStarted: the group takes part, from Term and Index on.
	GroupStarted EventKind = "group_started"
	// GroupFailed: the group has stopped on this node alone; Detail says why.
	GroupFailed EventKind = "group_failed"
	// GroupStopped: the group was stopped on purpose.
	GroupStopped EventKind = "group_stopped"

	// PeerUp: the connections to Peer are established.
	PeerUp EventKind = "peer_up"
	// PeerLost: a connection to Peer broke.
	PeerLost EventKind = "peer_lost"
	// PeerRefused: Peer wanted to connect and must not, or it refuses this node; Detail says which,
	// why, and what to do.
	PeerRefused EventKind = "peer_refused"
)

// The stages that a SlowStage event names in its Detail.
const (
	StageApply = "apply" // the state machine, for what one step of the apply stage held
	StageLog   = "log"   // one write of the log with its sync
	StageLoop  = "loop"  // one pass of an event loop over the groups that had something to do
)

// Event is something that has happened on this node. Fields that a kind does not name are zero.
type Event struct {
	Time   time.Time     `json:"time"`
	Kind   EventKind     `json:"kind"`
	Group  uint64        `json:"group,omitempty"` // 0 = the node as a whole
	Peer   uint64        `json:"peer,omitempty"`  // the other node, or the leader
	Term   uint64        `json:"term,omitempty"`
	Index  uint64        `json:"index,omitempty"`
	Bytes  int64         `json:"bytes,omitempty"`
	Took   time.Duration `json:"took_ns,omitempty"`
	Detail string        `json:"detail,omitempty"` // for a human
	// Missed is how many events this subscription has dropped between the one before and this.
	Missed uint64 `json:"missed,omitempty"`
}

// Subscription receives the events of a node from the moment of Subscribe on. What happens while
// its channel is full is dropped and counted: a subscriber that does not read costs the node no
// memory and no time. Events of one group come in the order in which they happened.
type Subscription struct {
	// C yields the events. It is closed by Close, and when the node has closed.
	C <-chan Event

	source *events
	// mu keeps the sends of several stages in order and apart from the close of the channel. No
	// send waits, so nobody holds it for long.
	mu struct {
		sync.Mutex
		out    chan Event
		missed uint64 // since the last event that had room
		closed bool
	}
	dropped atomic.Uint64
}

// Dropped returns how many events had no room.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// Close ends the subscription and closes C; what is in C can still be read. It is idempotent.
func (s *Subscription) Close() {
	s.source.remove(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.closed {
		s.mu.closed = true
		close(s.mu.out)
	}
}

// offer gives an event to the subscriber if it has room.
func (s *Subscription) offer(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return
	}
	e.Missed = s.mu.missed
	select {
	case s.mu.out <- e:
		s.mu.missed = 0
	default:
		s.mu.missed++
		s.dropped.Add(1)
	}
}

// events hands what happens to the subscriptions. Without any, an event costs one load.
type events struct {
	// subscriptions is replaced as a whole; nil = there are none.
	subscriptions atomic.Pointer[[]*Subscription]
	mu            struct {
		sync.Mutex
		closed bool // the node is; held by whoever replaces subscriptions
	}
	// peers are those that are told to be up. They are the transport's: it calls one at a time.
	peers map[uint64]struct{}
}

// subscriptionsMax bounds what one event can cost.
const subscriptionsMax = 64

// Subscribe returns a subscription whose channel holds so many events, at least 1. When the node
// has closed, or has 64 subscriptions already, the channel is closed from the beginning. It must be
// closed by its owner.
func (n *Node) Subscribe(buffer int) *Subscription { return n.events.add(buffer) }

// emit tells the subscribers what has happened. It never waits, and may be called from any stage.
func (n *Node) emit(e Event) { n.events.emit(e) }

// emit tells the subscribers what has happened to the group.
func (g *Group) emit(e Event) {
	e.Group = g.id
	g.node.events.emit(e)
}

func (v *events) emit(e Event) {
	subscriptions := v.subscriptions.Load()
	if subscriptions == nil {
		return
	}
	e.Time = time.Now()
	for _, s := range *subscriptions {
		s.offer(e)
	}
}

// up notes that a peer is connected. One that was up before has been lost meanwhile.
func (v *events) up(peer uint64) {
	if _, was := v.peers[peer]; was {
		v.emit(Event{Kind: PeerLost, Peer: peer})
	}
	if v.peers == nil {
		v.peers = map[uint64]struct{}{}
	}
	v.peers[peer] = struct{}{}
	v.emit(Event{Kind: PeerUp, Peer: peer})
}

// lost notes that something sent to a peer is lost. The transport says so for each of the streams
// that break together, and for a queue that was full; one event for a connection is enough.
func (v *events) lost(peer uint64, connected bool) {
	if _, was := v.peers[peer]; was && !connected {
		delete(v.peers, peer)
		v.emit(Event{Kind: PeerLost, Peer: peer})
	}
}

func (v *events) add(buffer int) *Subscription {
	s := &Subscription{source: v}
	s.mu.out = make(chan Event, max(buffer, 1))
	s.C = s.mu.out
	v.mu.Lock()
	defer v.mu.Unlock()
	present := v.list()
	if v.mu.closed || len(present) >= subscriptionsMax {
		s.mu.closed = true
		close(s.mu.out)
		return s
	}
	v.replaceLocked(append(slices.Clone(present), s))
	return s
}

func (v *events) remove(s *Subscription) {
	v.mu.Lock()
	defer v.mu.Unlock()
	present := v.list()
	if i := slices.Index(present, s); i >= 0 {
		v.replaceLocked(slices.Delete(slices.Clone(present), i, i+1))
	}
}

// close ends all subscriptions; the stages have ended.
func (v *events) close() {
	v.mu.Lock()
	v.mu.closed = true
	present := v.list()
	v.mu.Unlock()
	for _, s := range present {
		s.Close()
	}
}

func (v *events) list() []*Subscription {
	if p := v.subscriptions.Load(); p != nil {
		return *p
	}
	return nil
}

func (v *events) replaceLocked(list []*Subscription) {
	if len(list) == 0 {
		v.subscriptions.Store(nil)
		return
	}
	v.subscriptions.Store(&list)
}

// slow reports a step of a stage that has taken longer than the limit.
func (n *Node) slow(stage string, group uint64, begun time.Time) {
	if took := time.Since(begun); took > n.options.SlowStage {
		n.emit(Event{Kind: SlowStage, Group: group, Took: took, Detail: stage})
	}
}
