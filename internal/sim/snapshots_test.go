package sim_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/wal"
)

// snapStore stands in for package snap: durable snapshots in memory. A snapshot is there whole or
// not at all, and survives every crash; bbolt needs a real file and has crash tests of its own.
type snapStore struct{ all []*snapshot }

type snapshot struct {
	group, index, term uint64
	members            *pb.ConfState
	clock              int64
	body               []byte
	rotten             bool // its checksum is wrong
}

func newSnapStore() *snapStore { return &snapStore{} }

// list returns the snapshots of a group, newest first.
func (s *snapStore) list(group uint64) (found []*snapshot) {
	for _, one := range s.all {
		if one.group == group {
			found = append(found, one)
		}
	}
	slices.SortFunc(found, func(a, b *snapshot) int { return int(b.index) - int(a.index) })
	return found
}

func (s *snapStore) find(group, index uint64) *snapshot {
	for _, one := range s.all {
		if one.group == group && one.index == index {
			return one
		}
	}
	return nil
}

func (s *snapStore) put(one *snapshot) {
	s.remove(one.group, one.index)
	s.all = append(s.all, one)
}

func (s *snapStore) remove(group, index uint64) {
	s.all = slices.DeleteFunc(s.all, func(one *snapshot) bool {
		return one.group == group && one.index == index
	})
}

const snapshotsKept = 2 // node/snapshots.go

// snapshots is the twin of node/snapshots.go.
type snapshots struct {
	g       *group
	newest  *snapshot
	cutting bool
	pins    []pin // by peer
}

type pin struct {
	index uint64 // 0 = none
	sent  bool
}

func (s *snapshots) raftSnapshot() (*pb.Snapshot, error) {
	m := s.newest
	if m == nil || !covers(m.members, s.g.conf) {
		s.g.apply.put(applyTask{snapshot: true})
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return &pb.Snapshot{Data: []byte("manifest"), Metadata: &pb.SnapshotMetadata{
		Index: new(m.index), Term: new(m.term), ConfState: proto.CloneOf(m.members)}}, nil
}

// send is snapshots.send: the body travels beside everything else, and raft is told the end.
func (s *snapshots) send(to uint64, m *pb.Message) {
	g := s.g
	index := m.GetSnapshot().GetMetadata().GetIndex()
	s.pin(to, pin{index: index})
	done := func(err error) {
		g.note("snapshot sent", to, index, boolWord(err == nil))
		if !g.w.is(forgetSnapshotReport) {
			g.post(func(in *contents) {
				in.events = append(in.events, func(r *replica.Replica) {
					r.SnapshotSent(to, err)
					s.pin(to, pin{index: index, sent: true})
				})
			})
		}
	}
	body := g.p.h.snaps.find(g.id, index)
	if body == nil {
		g.p.after(0, func() { done(errors.New("snapshot is gone")) })
		return
	}
	if body.rotten {
		g.p.after(0, func() { done(errors.New("snapshot is damaged")) })
		return
	}
	g.w.net.sendSnapshot(g.p, to, g.id, m, body, done)
}

func (s *snapshots) pin(to uint64, p pin) {
	if s.pins == nil {
		s.pins = make([]pin, len(s.g.w.hosts)+1)
	}
	s.pins[to] = p
}

// unpin is snapshots.unpin.
func (s *snapshots) unpin(r *replica.Replica) {
	for to, p := range s.pins {
		if p.index != 0 && p.sent && !r.Behind(uint64(to), p.index) {
			s.pins[to] = pin{}
		}
	}
}

// unpinned is snapshots.unpinned.
func (s *snapshots) unpinned(index uint64) uint64 {
	for _, p := range s.pins {
		if p.index != 0 {
			index = min(index, p.index)
		}
	}
	return index
}

// receive is snapshots.receive, up to the moment at which the body is durable.
func (s *snapshots) receive(from uint64, m *pb.Message, body *snapshot) error {
	g := s.g
	meta := m.GetSnapshot().GetMetadata()
	if body.index != meta.GetIndex() || body.term != meta.GetTerm() || body.group != g.id {
		return fmt.Errorf("snapshot %d is another one", meta.GetIndex())
	}
	if !g.begun || g.failed != nil {
		return errors.New("no snapshot is taken now")
	}
	stored := *body
	stored.body, stored.members = bytes.Clone(body.body), proto.CloneOf(body.members)
	g.p.h.snaps.put(&stored)
	g.note("snapshot received", from, body.index)
	g.post(func(in *contents) { in.messages = append(in.messages, received{from, m}) })
	return nil
}

// maybeSnapshot is applier.maybeSnapshot.
func (a *applier) maybeSnapshot(asked bool) error {
	c := &a.g.w.plan.config
	due := a.entriesSince >= c.snapshotEntries || a.bytesSince >= c.snapshotBytes
	if asked {
		m := a.g.snaps.newest
		asked = m == nil || !covers(m.members, a.directory.State)
	}
	if !due && !asked || a.applied == 0 {
		return nil
	}
	s := a.g.snaps
	if s.cutting {
		return nil
	}
	s.cutting = true
	var body bytes.Buffer
	if err := a.stage.Snapshot(&body); err != nil {
		return err
	}
	at := a.stage.Position()
	one := &snapshot{group: a.g.id, index: at.Index, term: at.Term, members: at.Members,
		clock: at.Clock, body: a.g.p.h.writeBody(body.Bytes())}
	a.g.w.mutateSnapshot(one)
	a.entriesSince, a.bytesSince = 0, 0
	if a.g.w.is(compactEarly) {
		a.g.truncate(one.index)
	}
	a.g.p.after(a.g.w.between(time.Millisecond, 50*time.Millisecond), func() { s.commit(one) })
	return nil
}

// commit is snapshots.commit.
func (s *snapshots) commit(one *snapshot) {
	s.cutting = false
	s.g.p.h.snaps.put(one)
	s.g.note("snapshot cut", one.index)
	if err := s.settle(one.index); err != nil {
		s.g.w.trace.say("n%d g%d snapshot not cut: %v", s.g.p.h.id, s.g.id, err)
	}
}

// settle is snapshots.settle.
func (s *snapshots) settle(index uint64) error {
	g := s.g
	if s.newest != nil && index < s.newest.index {
		return nil // a newer one has settled meanwhile
	}
	var kept []*snapshot
	for _, one := range g.p.h.snaps.list(g.id) {
		switch {
		case one.index > index:
		case len(kept) < snapshotsKept:
			kept = append(kept, one)
		default:
			g.p.h.snaps.remove(g.id, one.index)
		}
	}
	if len(kept) == 0 || kept[0].index != index {
		return fmt.Errorf("snapshot %d of group %d is gone", index, g.id)
	}
	s.newest = kept[0]
	if len(kept) < snapshotsKept {
		return nil
	}
	g.truncate(s.unpinned(kept[len(kept)-1].index))
	return nil
}

// truncate is Group.truncate.
func (g *group) truncate(index uint64) {
	a := g.p.appender
	a.upkeep(func() {
		err := g.p.wal.Compact(g.id, index)
		if errors.Is(err, wal.ErrDiskFull) {
			a.later(func() { g.truncate(index) })
			return
		}
		if err != nil {
			g.p.fail(fmt.Errorf("truncate the log of group %d up to %d: %w", g.id, index, err))
			return
		}
		g.p.h.compacted(g.id, index)
	})
}
