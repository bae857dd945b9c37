package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/snap"
	"github.com/connectraft/connect/statemachine"
	"github.com/connectraft/connect/transport"
	"github.com/connectraft/connect/wal"
)

// readyChannelSize is the capacity of the Ready channel. Loops stop collecting before it is full.
const readyChannelSize = 4096

// Node hosts the groups of one process over one log, one snapshot store and one transport.
type Node struct {
	options   Options
	log       *slog.Logger
	wal       *wal.Log
	snaps     *snap.Store
	transport *transport.Transport
	workers   []*worker
	ready     chan ready    // the Ready channel
	fetches   chan struct{} // one token for each read for a damaged peer
	appender  *appender
	joint     joint
	relays    *relays
	signals   sync.Pool // channels of calls that have ended
	calls     sync.Pool // calls that have ended and that nobody else can have
	crew      *crew     // runs the apply stages
	control   *control
	roster    *roster
	steward   *steward
	refusals  refusals
	disk      *diskWatch
	pulse     *pulse
	keeper    *keeper
	events    events
	inflight  gate // what all groups have accepted and not finished

	groups groupTable
	// claims is held while a group is taken in, so that none is once the node closes.
	claims sync.Mutex

	starting   sync.WaitGroup // groups that begin
	background sync.WaitGroup // transfers and snapshots
	started    time.Time      // the zero of its monotonic clock
	ctx        context.Context
	cancel     context.CancelFunc
	closing    atomic.Bool
	stopping   chan struct{} // closed when the node begins to close
	closeOnce  sync.Once
	closeErr   error

	diskFull atomic.Bool
	failOnce sync.Once
	done     chan struct{} // closed when the node has failed
	err      error         // why; written before done is closed
}

// Open takes the data directory, recovers the log and begins to listen to its peers. Nothing is
// replicated before StartGroup.
func Open(options Options) (*Node, error) {
	o := options.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	n := &Node{options: o, log: o.Logger.With("node", o.ID), started: time.Now(),
		stopping: make(chan struct{}),
		ready:    make(chan ready, readyChannelSize), done: make(chan struct{}), crew: newCrew(),
		fetches: make(chan struct{}, fetchesAtOnce)}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if err := n.openStorage(); err != nil {
		if o.PeerListener != nil {
			err = errors.Join(err, o.PeerListener.Close())
		}
		n.cancel()
		return nil, err
	}
	n.inflight.limit(o.NodeInflightCommands, o.NodeInflightBytes)
	n.disk = &diskWatch{node: n, log: n.wal, logger: n.log, limit: o.SyncTimeout}
	n.relays = newRelays(n)
	n.control, n.roster, n.steward = newControl(n), newRoster(n), newSteward(n)
	n.pulse, n.keeper = newPulse(n), newKeeper(n)
	n.workers = newWorkers(n)
	n.appender = newAppender(n)
	if err := n.openTransport(); err != nil {
		return nil, errors.Join(err, n.wal.Close(), n.snaps.Close())
	}
	for _, w := range n.workers {
		go w.run()
	}
	go n.appender.run()
	go n.keeper.run()
	n.background.Go(n.steward.run)
	n.transport.Start()
	return n, nil
}

func (n *Node) openStorage() error {
	var err error
	n.snaps, err = snap.Open(filepath.Join(n.options.Dir, "snap"), snap.Options{Logger: n.log})
	if err != nil {
		return fmt.Errorf("node %d: open the snapshots: %w", n.options.ID, err)
	}
	n.wal, err = wal.Open(wal.Options{
		FS:           vfs.OS{},
		Dir:          filepath.Join(n.options.Dir, "wal"),
		Identity:     wal.Identity{ClusterID: n.options.ClusterID, NodeID: n.options.ID},
		SegmentBytes: n.options.SegmentBytes,
		CacheBytes:   n.options.CacheBytes,
		Repair:       n.hasPeers(),
		Logger:       n.log,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("node %d: open the log: %w", n.options.ID, err),
			n.snaps.Close())
	}
	return nil
}

func (n *Node) openTransport() error {
	self, _ := n.options.member(n.options.ID)
	listener := n.options.PeerListener
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", self.Address); err != nil {
			return fmt.Errorf("node %d: listen for peers: %w", n.options.ID, err)
		}
	}
	t, err := transport.New(transport.Options{
		ClusterID:   n.options.ClusterID,
		NodeID:      n.options.ID,
		Incarnation: n.wal.Identity().Incarnation,
		Address:     self.Address,
		Listener:    listener,
		Handler:     handler{n},
		Logger:      n.options.Logger,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	for _, m := range n.options.Members {
		if m.ID != n.options.ID {
			t.SetPeer(m.ID, m.Address)
		}
	}
	n.transport = t
	return nil
}

// StartGroup starts a group with its state machine. A group that is new to this node's log begins
// with the members of the options as its voters. The machine must be in its initial state, and
// belongs to the node from now on. Calls before the group has begun, which can need the other
// members, end with ErrNoLeader at once; [Group.Ready] tells when it serves.
func (n *Node) StartGroup(id uint64, machine statemachine.Machine) (*Group, error) {
	if machine == nil {
		return nil, fmt.Errorf("node %d: start group %d: machine = nil: want a state machine",
			n.options.ID, id)
	}
	g := n.newGroup(id, machine)
	if err := n.startNew(g); err != nil {
		return nil, err
	}
	return g, nil
}

// startNew takes a group in and begins it.
func (n *Node) startNew(g *Group) error {
	err := n.claim(g)
	if err == nil {
		err = g.launch()
		g.starting.Done()
		n.starting.Done()
	}
	if err != nil {
		return fmt.Errorf("node %d: start group %d: %w", n.options.ID, g.id, err)
	}
	return nil
}

// newGroup makes a group that nobody knows of yet.
func (n *Node) newGroup(id uint64, machine statemachine.Machine) *Group {
	g := &Group{id: id, node: n, worker: n.workerOf(id), log: n.log.With("group", id),
		wal: n.wal.Group(id)}
	g.admission.group.limit(n.options.InflightCommands, n.options.InflightBytes)
	g.admission.node = &n.inflight
	g.snapshots.group = g
	g.members.first = n.firstMembers()
	g.apply = newApplier(g, machine)
	g.newcomer.Store(g.isNew())
	return g
}

// claim takes a group in that is to begin. Its caller ends both waits for starting groups.
func (n *Node) claim(g *Group) error {
	n.claims.Lock()
	defer n.claims.Unlock()
	if n.closing.Load() {
		return ErrClosed
	}
	if err := n.Err(); err != nil {
		return err
	}
	if !n.groups.add(g) {
		return errors.New("it runs already")
	}
	n.starting.Add(1)
	g.starting.Add(1)
	return nil
}

// launch begins a group. One whose log is damaged or empty begins when the peers have told what is
// missing.
func (g *Group) launch() error {
	n := g.node
	alone := slices.Equal(g.knownMembers().GetVoters(), []uint64{n.options.ID})
	if damage := g.wal.Damage(); damage != nil && alone {
		n.groups.remove(g.id)
		return fmt.Errorf("this node is the only voter, so nobody can tell what is missing: %w",
			damage)
	}
	if g.waitsToBeAdded() {
		g.newcomer.Store(false)
	}
	if g.wal.Damage() == nil && (!g.newcomer.Load() || alone) {
		err := g.begin(0)
		if err != nil {
			n.groups.remove(g.id)
		}
		return err
	}
	m := newMender(g)
	g.mender.Store(m)
	g.starting.Add(1)
	n.starting.Go(func() {
		defer g.starting.Done()
		fence, err := m.run()
		if err == nil {
			err = g.begin(fence)
		}
		if err != nil && !errors.Is(err, ErrClosed) {
			g.fail(err)
		}
	})
	return nil
}

// begin brings the group to life: from its log and its newest snapshot, or as a new one. A fence that
// is not 0 is the term above which it must start, fenced.
func (g *Group) begin(fence uint64) error {
	n := g.node
	if fence != 0 {
		// Over restarts too, until the group is whole: a lost directory does not show any more
		// once there is something in it.
		if err := n.onLog(func() error { return n.wal.Fence(g.id) }); err != nil {
			return err
		}
	}
	empty, begins := g.beginsEmpty(), g.isNew()
	if err := g.bootstrap(); err != nil {
		return err
	}
	if err := g.recover(); err != nil {
		return err
	}
	state := g.wal.State()
	state.Commit = min(max(state.Commit, g.apply.applied.Load()), g.wal.LastIndex())
	if fence != 0 {
		g.log.Warn("the log has lost its end; the group is fenced", "above_term", fence)
		g.fenced.Store(true)
		g.emit(Event{Kind: GroupFenced, Term: fence})
		state.Term, state.Vote = fence+1, 0
		if err := n.appendNow(wal.Update{Group: g.id, State: &state}); err != nil {
			return err
		}
	}
	coreFence := fence
	if empty {
		// A vote of this node would be that of an earlier life that nobody knows of; see fence.go
		// of the core. The first snapshot lifts it.
		coreFence = max(fence, bootstrapTerm)
	}
	core, err := replica.New(replica.Config{
		Group:          g.id,
		ID:             n.options.ID,
		ElectionTicks:  n.options.ElectionTicks,
		HeartbeatTicks: n.options.HeartbeatTicks,
		Storage: &storage{Group: g.wal, snapshots: &g.snapshots, hardState: state,
			confState: g.apply.directory.Load().State},
		Applied:       g.apply.applied.Load(),
		Version:       g.apply.directory.Load().Version,
		Lease:         n.options.lease(),
		Begins:        begins && coreFence == 0,
		EntryBytes:    n.options.EntryBytes,
		InflightBytes: uint64(n.options.InflightBytes),
		AppendsAhead:  appendsAhead,
		ReadSeed:      rand.Uint64(),
		Fence:         coreFence,
		Logger:        raftLogger{g.log},
	})
	if err != nil {
		return err
	}
	g.hardState = state
	g.term.Store(state.Term)
	g.commit.Store(state.Commit)
	g.log.Info("group started", "term", state.Term, "commit", state.Commit,
		"applied", g.apply.applied.Load(), "last", g.wal.LastIndex())
	g.emit(Event{Kind: GroupStarted, Term: state.Term, Index: g.apply.applied.Load()})
	g.members.conf.Store(g.apply.directory.Load().State)
	g.members.handed = g.apply.applied.Load()
	g.members.settle(g.wal.LastIndex())
	g.apply.begin()
	g.post(func(in *contents) { in.start = core })
	g.newcomer.Store(false)
	g.begun.Store(true) // commands are admitted from now on, behind the core in the inbox
	return n.Err()
}

// appendsAhead is how many appends of new entries a leader hands out before the first is durable. What
// comes meanwhile waits for the log writer anyway, and becomes one entry instead of several.
const appendsAhead = 1

// bootstrapTerm is the term of the imaginary snapshot.
const bootstrapTerm = 1

// bootstrap gives a group that is new to the log, or lost from it as a whole, its beginning: each of
// the first members starts from the same imaginary snapshot at index 1 that holds the membership and
// an empty state machine. Any other node begins with nothing, until a leader sends it a snapshot.
func (g *Group) bootstrap() error {
	if g.wal.LastIndex() > 0 || g.wal.State() != (wal.State{}) || g.beginsEmpty() {
		return nil
	}
	return g.node.appendNow(wal.Update{
		Group: g.id,
		State: &wal.State{Term: bootstrapTerm, Commit: 1},
		Mark:  &wal.Mark{Index: 1, Term: bootstrapTerm, ConfState: g.firstVoters()},
	})
}

// firstVoters is the membership that a group begins with.
func (g *Group) firstVoters() *pb.ConfState {
	state := &pb.ConfState{Voters: idsOf(g.members.first)}
	slices.Sort(state.Voters)
	return state
}

// isNew reports whether the log has nothing of the group, and knows of nothing that it has lost.
func (g *Group) isNew() bool {
	return g.wal.LastIndex() == 0 && g.wal.State() == (wal.State{}) && g.wal.Damage() == nil
}

// onLog runs work on the log writer and waits for it.
func (n *Node) onLog(work func() error) error {
	result := make(chan error, 1)
	n.appender.upkeep.put(func() { result <- work() })
	return n.await(result)
}

// await waits for something that the log writer does.
func (n *Node) await(result <-chan error) error {
	select {
	case err := <-result:
		return err
	case <-n.appender.ended:
		return ErrClosed
	case <-n.done:
		return n.err
	}
}

// recover loads the newest snapshot that fits the log. Entries behind it are applied again when raft
// hands them out.
func (g *Group) recover() error {
	mark := g.wal.Mark()
	var damaged []error
	for _, m := range g.node.snaps.List(g.id) {
		if !g.fits(m, mark) && !g.outlives(m) {
			continue
		}
		err := g.apply.load(m.Index)
		if err == nil {
			g.snapshots.newest.Store(&m)
			return g.resetBehind(m)
		}
		g.log.Error("snapshot damaged, trying an older one", "index", m.Index, "err", err)
		g.emit(Event{Kind: DamageFound, Index: m.Index, Detail: err.Error()})
		damaged = append(damaged, err)
	}
	if mark.Index > 1 {
		return fmt.Errorf("the log begins at index %d and no usable snapshot reaches it: %w",
			mark.Index+1, cmp.Or(errors.Join(damaged...), errors.New("there is none")))
	}
	first := mark.ConfState
	switch {
	case g.beginsEmpty():
		first = &pb.ConfState{}
	case first == nil: // lost to damage, with everything behind it
		first = g.firstVoters()
	}
	g.apply.beginAt(apply.Position{Index: mark.Index, Term: mark.Term, Members: first})
	return nil
}

// outlives reports whether a snapshot reaches beyond a log that has lost its end. What it holds was
// committed, so the log may begin behind it.
func (g *Group) outlives(m snap.Manifest) bool {
	return g.wal.Damage() != nil && m.Index > g.wal.LastIndex()
}

// resetBehind lets a log that has lost its end begin behind the snapshot that outlives it.
func (g *Group) resetBehind(m snap.Manifest) error {
	if !g.outlives(m) {
		return nil
	}
	state := g.wal.State()
	state.Term, state.Commit = max(state.Term, m.Term), m.Index
	return g.node.appendNow(wal.Update{Group: g.id, State: &state,
		Mark: &wal.Mark{Index: m.Index, Term: m.Term, ConfState: m.ConfState}})
}

// fits reports whether the log goes on where a snapshot ends. One beyond the log came from a leader
// and was not marked in the log before the node stopped.
func (g *Group) fits(m snap.Manifest, mark wal.Mark) bool {
	if m.Index < mark.Index || m.Index > g.wal.LastIndex() {
		return false
	}
	term, err := g.wal.Term(m.Index)
	return err == nil && term == m.Term
}

// Group returns a running group, nil when there is none of that id.
func (n *Node) Group(id uint64) *Group { return n.groups.get(id) }

// Groups returns the running groups, by id.
func (n *Node) Groups() []*Group { return n.groups.list() }

// Incarnation is the number that was drawn when this node's data directory was made. It tells the
// node from others that came under its id.
func (n *Node) Incarnation() uint64 { return n.wal.Identity().Incarnation }

// LogStats returns figures of the log.
func (n *Node) LogStats() wal.Stats { return n.wal.Stats() }

// Peers returns figures of the connections to the other nodes.
func (n *Node) Peers() []transport.PeerStats { return n.transport.Stats() }

// Done is closed when the node cannot go on; Err says why.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err returns why the node failed, nil while Done is open.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.err
	default:
		return nil
	}
}

// fail stops the node after its log has failed: nothing is acknowledged any more, and every group
// falls silent, so that others lead.
func (n *Node) fail(err error) {
	n.failOnce.Do(func() {
		n.err = err
		n.log.Error("node failed", "err", err)
		close(n.done)
		for _, g := range n.Groups() {
			g.fail(err)
		}
	})
}

func (n *Node) setDiskFull(full bool) {
	if n.diskFull.Swap(full) == full {
		return
	}
	if full {
		n.log.Error("disk full: new commands are refused until there is room")
	} else {
		n.log.Info("disk has room again")
	}
}

// Close stops the node. Commands that are not finished end with ErrClosed or ErrUnknown. It is
// idempotent, and returns when every goroutine has ended and every file is closed.
func (n *Node) Close() error {
	n.closeOnce.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

func (n *Node) close() error {
	n.claims.Lock() // no group starts any more
	n.closing.Store(true)
	n.claims.Unlock()
	close(n.stopping)
	n.cancel()
	n.inflight.end()
	for _, g := range n.Groups() {
		g.admission.group.end()
	}
	err := n.transport.Close()
	<-n.keeper.ended
	n.starting.Wait()
	for _, w := range n.workers {
		close(w.stop)
		<-w.ended
	}
	close(n.ready)
	<-n.appender.ended
	for _, g := range n.Groups() {
		g.apply.close()
	}
	n.crew.close()
	n.background.Wait()
	n.relays.closed()
	for _, g := range n.Groups() {
		// The worker has ended: what is its own is this goroutine's now.
		g.refuse(g.empty(true))
	}
	n.events.close()
	return errors.Join(err, n.snaps.Close(), n.wal.Close())
}

// handler takes what the transport receives.
type handler struct{ node *Node }

var (
	_ transport.Handler        = handler{}
	_ transport.Admitter       = handler{}
	_ transport.RefusalHandler = handler{}
)

func (h handler) HandleRaft(from, group uint64, messages []*pb.Message) {
	g := h.node.Group(group)
	if g == nil {
		return
	}
	g.postMessages(from, messages)
}

func (h handler) HandleRequest(from, group uint64, kind transport.Kind, payload []byte) {
	var err error
	switch kind {
	case kindForward:
		err = h.node.relays.accept(h.node.Group(group), group, from, payload)
	case kindReply:
		err = h.node.relays.reply(from, payload)
	case kindControl, kindAnswer:
		err = h.node.control.handle(from, group, kind, payload)
	case kindFetch, kindEntries, kindAskTerm, kindTerm:
		if g := h.node.Group(group); g != nil {
			err = g.handleMend(from, kind, payload)
		}
	case kindRest, kindStir, kindBeat:
		err = h.node.hear(from, kind, payload)
	default:
		err = fmt.Errorf("node: frame of unknown kind %d", kind)
	}
	if err != nil {
		h.node.log.Warn("request dropped", "from", from, "group", group, "err", err)
	}
}

func (h handler) HandleSnapshot(_ context.Context, from, group uint64, m *pb.Message, size int64,
	body io.Reader) error {
	g := h.node.Group(group)
	if g == nil {
		return fmt.Errorf("node: group %d does not run here", group)
	}
	return g.snapshots.receive(from, m, size, body)
}

func (h handler) PeerLost(peer uint64) {
	h.node.events.lost(peer, h.node.incarnationOf(peer) != 0)
	h.node.relays.lost(peer)
	h.node.control.lost(peer)
	h.node.groups.each(func(g *Group) {
		if !g.leads() && g.lead.Load() != peer {
			return
		}
		g.post(func(in *contents) {
			in.events = append(in.events, func(r *replica.Replica) { r.Unreachable(peer) })
		})
	})
}

func (h handler) PeerUp(peer, _ uint64) {
	h.node.events.up(peer)
	h.node.refusals.lifted(peer)
	h.node.steward.kick()
}
