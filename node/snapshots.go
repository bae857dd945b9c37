package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/snap"
	"github.com/connectraft/connect/wal"
)

// snapshotsKept is how many snapshots of a group stay on disk. The log is truncated behind the
// oldest of them, so that a damaged newest one costs nothing but time.
const snapshotsKept = 2

// snapshots is what a group does with its snapshots: cut, send, receive, restore, remove.
type snapshots struct {
	group *Group
	// newest is the manifest that peers are sent; nil when there is none.
	newest  atomic.Pointer[snap.Manifest]
	cutting atomic.Bool    // a snapshot is being written
	cuts    sync.WaitGroup // those that are being made durable
	// settling is held by settle, whose steps must not mix: it serialises the removal of files.
	settling sync.Mutex
	// mu guards pins: the indexes of snapshots that peers are being brought up to. The log keeps
	// what stands behind them until the peer's log goes on there, or the peer would need another
	// snapshot as soon as it has taken this one.
	mu struct {
		sync.Mutex
		pins map[uint64]pin
	}
}

type pin struct {
	index uint64
	sent  bool // the transfer has ended
}

// bytes of the newest snapshot, 0 = none.
func (s *snapshots) bytes() int64 {
	if m := s.newest.Load(); m != nil {
		return m.Size
	}
	return 0
}

// index of the newest snapshot, 0 = none.
func (s *snapshots) index() uint64 {
	if m := s.newest.Load(); m != nil {
		return m.Index
	}
	return 0
}

// raftSnapshot is what raft sends to a follower that is behind the log: a manifest; the transport
// streams the body beside it. Without a usable one, one is cut and raft asks again later.
func (s *snapshots) raftSnapshot() (*pb.Snapshot, error) {
	m := s.newest.Load()
	if m == nil || !covers(m.ConfState, s.group.members.conf.Load()) {
		s.group.apply.put(applyTask{snapshot: true})
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	data, err := m.AppendBinary(nil)
	if err != nil {
		return nil, fmt.Errorf("node: manifest of snapshot %d: %w", m.Index, err)
	}
	return &pb.Snapshot{Data: data, Metadata: &pb.SnapshotMetadata{Index: new(m.Index),
		Term: new(m.Term), ConfState: proto.CloneOf(m.ConfState)}}, nil
}

// covers reports whether a snapshot with the members of state can be sent to every member of now. A
// node ignores a snapshot that does not have it as a member, and its leader would send the same one
// again for ever, so a snapshot from before the change that added a member is of no use to it.
func covers(state, now *pb.ConfState) bool {
	for _, id := range allIDs(now) {
		if !isMember(state, id) {
			return false
		}
	}
	return true
}

// send streams the snapshot that m names to a peer, beside everything else, and reports to raft how
// it ended. Raft has at most one under way to each peer.
func (s *snapshots) send(to uint64, m *pb.Message) {
	g := s.group
	s.pin(to, pin{index: m.GetSnapshot().GetMetadata().GetIndex()})
	g.node.background.Go(func() {
		begin := time.Now()
		err := s.stream(g.node.ctx, to, m)
		index := m.GetSnapshot().GetMetadata().GetIndex()
		if err != nil {
			g.log.Warn("snapshot not sent", "to", to, "index", index, "err", err)
			g.emit(Event{Kind: SnapshotFailed, Peer: to, Index: index,
				Detail: "not sent: " + err.Error()})
		} else {
			g.log.Info("snapshot sent", "to", to, "index", index, "took", time.Since(begin))
			g.emit(Event{Kind: SnapshotSent, Peer: to, Index: index, Took: time.Since(begin)})
		}
		g.post(func(in *contents) {
			in.events = append(in.events, func(r *replica.Replica) {
				r.SnapshotSent(to, err)
				s.pin(to, pin{index: index, sent: true})
			})
		})
	})
}

func (s *snapshots) pin(to uint64, p pin) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.pins == nil {
		s.mu.pins = map[uint64]pin{}
	}
	s.mu.pins[to] = p
}

// unpin lets go of snapshots that were sent and that their peers have got past, or that are no
// business of this replica any more. It runs on the worker, at every tick.
func (s *snapshots) unpin(r *replica.Replica) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for to, p := range s.mu.pins {
		if p.sent && !r.Behind(to, p.index) {
			delete(s.mu.pins, to)
		}
	}
}

// pinned reports whether a peer is being brought up to a snapshot.
func (s *snapshots) pinned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.pins) > 0
}

// unpinned returns the highest index up to which the log may be truncated, at most index.
func (s *snapshots) unpinned(index uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.mu.pins {
		index = min(index, p.index)
	}
	return index
}

func (s *snapshots) stream(ctx context.Context, to uint64, m *pb.Message) error {
	file, err := s.group.node.snaps.OpenFile(s.group.id, m.GetSnapshot().GetMetadata().GetIndex())
	if err != nil {
		return err
	}
	defer file.Close()
	return s.group.node.transport.SendSnapshot(ctx, to, s.group.id, m, file.Manifest().Size, file)
}

// receive stores the body of a snapshot from a peer and hands the message to raft, which decides
// whether to take it. It returns when the snapshot is durable.
func (s *snapshots) receive(from uint64, m *pb.Message, size int64, body io.Reader) error {
	g := s.group
	manifest, err := snap.ParseManifest(m.GetSnapshot().GetData())
	if err != nil {
		return err
	}
	meta := m.GetSnapshot().GetMetadata()
	if manifest.Group != g.id || manifest.Index != meta.GetIndex() ||
		manifest.Term != meta.GetTerm() || manifest.Size != size {
		return fmt.Errorf("node: the manifest of snapshot %d is of another snapshot",
			meta.GetIndex())
	}
	if !g.begun.Load() || g.failed.Load() != nil {
		return fmt.Errorf("node: group %d takes no snapshot now", g.id)
	}
	begin := time.Now()
	if err := g.node.snaps.Receive(manifest, body); err != nil {
		g.emit(Event{Kind: SnapshotFailed, Peer: from, Index: manifest.Index,
			Detail: "not received: " + err.Error()})
		return err
	}
	g.emit(Event{Kind: SnapshotReceived, Peer: from, Index: manifest.Index, Bytes: size,
		Took: time.Since(begin)})
	g.log.Info("snapshot received", "from", from, "index", manifest.Index, "bytes", size)
	g.post(func(in *contents) { in.messages = append(in.messages, received{from, m}) })
	return nil
}

// load restores the state machine from the snapshot at index.
func (a *applier) load(index uint64) error {
	r, err := a.group.node.snaps.Load(a.group.id, index)
	if err != nil {
		return err
	}
	meta := r.Meta()
	err = a.stage.Restore(apply.Position{Index: meta.Index, Term: meta.Term, Clock: meta.Time,
		Members: meta.ConfState}, r)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // what the machine left unread must be whole too
	}
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("node: restore snapshot %d of group %d: %w", index, a.group.id, err)
	}
	a.publish()
	a.observeCatalog()
	a.entriesSince, a.bytesSince = 0, 0
	return nil
}

// restore loads a snapshot that a leader sent in place of its log.
func (a *applier) restore(s *pb.Snapshot) error {
	index := s.GetMetadata().GetIndex()
	begin := time.Now()
	if err := a.load(index); err != nil {
		return err
	}
	a.group.log.Info("snapshot restored", "index", index, "took", time.Since(begin))
	a.group.emit(Event{Kind: SnapshotRestored, Index: index, Took: time.Since(begin)})
	return a.group.snapshots.settle(index)
}

// maybeSnapshot cuts a snapshot when enough was applied since the last one, or when asked. The
// machine writes its state on this goroutine, because nothing may change it meanwhile; the syncing
// happens beside.
func (a *applier) maybeSnapshot(asked bool) error {
	o := a.group.node.options
	due := a.entriesSince >= o.SnapshotEntries || a.bytesSince >= o.SnapshotBytes
	if asked {
		// Raft asks at every heartbeat: what it waits for may have been cut meanwhile.
		m := a.group.snapshots.newest.Load()
		asked = m == nil || !covers(m.ConfState, a.directory.Load().State)
	}
	if !due && !asked || a.applied.Load() == 0 {
		return nil
	}
	s := &a.group.snapshots
	if !s.cutting.CompareAndSwap(false, true) {
		return nil // the next entry asks again
	}
	at := a.stage.Position()
	w, err := a.group.node.snaps.Create(snap.Meta{Group: a.group.id, Index: at.Index, Term: at.Term,
		ConfState: at.Members, Time: at.Clock})
	if err != nil {
		s.missed(err)
		return nil
	}
	if err := a.stage.Snapshot(w); err != nil {
		s.missed(errors.Join(err, w.Abort()))
		return nil
	}
	a.entriesSince, a.bytesSince = 0, 0
	s.cuts.Add(1)
	a.group.node.background.Go(func() {
		defer s.cuts.Done()
		s.commit(w)
	})
	return nil
}

// missed notes a snapshot that could not be cut. The log keeps everything meanwhile; the next try
// comes when as much again was applied.
func (s *snapshots) missed(err error) {
	s.group.log.Error("snapshot not cut", "err", err)
	s.group.emit(Event{Kind: SnapshotFailed, Detail: "not cut: " + err.Error()})
	s.group.apply.entriesSince, s.group.apply.bytesSince = 0, 0
	s.cutting.Store(false)
}

// commit makes a written snapshot durable, then frees what it replaces.
func (s *snapshots) commit(w *snap.Writer) {
	defer s.cutting.Store(false)
	begin := time.Now()
	m, err := w.Commit()
	if err == nil {
		s.group.log.Info("snapshot cut", "index", m.Index, "bytes", m.Size,
			"took", time.Since(begin))
		s.group.emit(Event{Kind: SnapshotCut, Index: m.Index, Term: m.Term, Bytes: m.Size,
			Took: time.Since(begin)})
		err = s.settle(m.Index)
	}
	if err != nil {
		s.group.log.Error("snapshot not cut", "err", err)
		s.group.emit(Event{Kind: SnapshotFailed, Detail: "not cut: " + err.Error()})
	}
}

// settle makes the snapshot at index the newest that counts, removes those it replaces, and has the
// log truncated behind the oldest one kept. Snapshots beyond index came from a leader and wait for
// raft to take them.
func (s *snapshots) settle(index uint64) error {
	s.settling.Lock()
	defer s.settling.Unlock()
	g := s.group
	if index < s.index() {
		return nil // a newer one has settled meanwhile
	}
	var kept []snap.Manifest
	for _, m := range g.node.snaps.List(g.id) {
		switch {
		case m.Index > index:
		case len(kept) < snapshotsKept:
			kept = append(kept, m)
		default:
			if err := g.node.snaps.Remove(g.id, m.Index); err != nil {
				g.log.Warn("old snapshot not removed", "index", m.Index, "err", err)
			}
		}
	}
	if len(kept) == 0 || kept[0].Index != index {
		return fmt.Errorf("node: snapshot %d of group %d is gone", index, g.id)
	}
	s.newest.Store(&kept[0])
	if len(kept) < snapshotsKept {
		return nil
	}
	g.truncate(s.unpinned(kept[len(kept)-1].Index))
	return nil
}

// truncate has the log writer drop the entries up to index. A full disk has it tried again.
func (g *Group) truncate(index uint64) {
	a := g.node.appender
	a.upkeep.put(func() {
		if g.removed.Load() {
			return
		}
		err := g.node.wal.Compact(g.id, index)
		if errors.Is(err, wal.ErrDiskFull) {
			a.later(func() { g.truncate(index) })
			return
		}
		if err != nil {
			g.node.fail(fmt.Errorf("node: truncate the log of group %d up to %d: %w", g.id, index,
				err))
		}
	})
}
