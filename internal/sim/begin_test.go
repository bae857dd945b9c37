package sim_test

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// The life of a group until it takes part: the twin of that part of node/node.go.

// start is Node.newGroup.
func (g *group) start() error {
	isNew := g.isNew() && !g.waitsToBeAdded()
	alone := slices.Equal(g.knownMembers().GetVoters(), []uint64{g.p.h.id})
	if g.wal.Damage() == nil && (!isNew || alone) || g.w.is(amnesia) && isNew {
		return g.begin(0)
	}
	g.newcomer = isNew
	g.mender = newMender(g)
	return nil
}

// begin is Group.begin.
func (g *group) begin(fence uint64) error {
	c := &g.w.plan.config
	if fence != 0 && !g.w.is(ignoreFence) {
		if err := g.p.wal.Fence(g.id); err != nil {
			return err
		}
	}
	empty, begins := g.beginsEmpty(), g.isNew()
	if err := g.bootstrap(); err != nil {
		return err
	}
	if err := g.recover(); err != nil && (isOfDisk(err) || g.p.h.refusesNext(err)) {
		return err
	} else if err != nil {
		g.w.violated("recovery", "group %d on node %d: %v", g.id, g.p.h.id, err)
	}
	state := g.wal.State()
	state.Commit = min(max(state.Commit, g.apply.applied), g.wal.LastIndex())
	if g.w.is(ignoreFence) {
		fence = 0
	}
	if fence != 0 {
		g.fenced = true
		state.Term, state.Vote = fence+1, 0
		if err := g.appendNow(wal.Update{Group: g.id, State: &state}); err != nil {
			return err
		}
	}
	coreFence := fence
	if empty {
		coreFence = max(fence, 1) // bootstrapTerm
	}
	core, err := replica.New(replica.Config{
		Group:          g.id,
		ID:             g.p.h.id,
		ElectionTicks:  c.electionTicks,
		HeartbeatTicks: c.heartbeatTicks,
		Storage:        &storage{Group: g.wal, g: g, hardState: state, confState: g.apply.stage.Position().Members},
		Applied:        g.apply.applied,
		Version:        g.apply.stage.Directory().Version,
		Lease:          g.lease(),
		Begins:         begins && coreFence == 0,
		EntryBytes:     c.entryBytes,
		InflightBytes:  c.inflightBytes,
		AppendsAhead:   appendsAhead,
		ReadSeed:       g.w.rng.process.Uint64(),
		Fence:          coreFence,
		Logger:         raftLogger{},
	})
	if err != nil {
		return err
	}
	g.hardState = state
	g.term, g.commit = state.Term, state.Commit
	g.newcomer = false
	g.conf = g.apply.directory.State
	g.settle(g.wal.LastIndex())
	g.begun = true
	g.p.h.weak[g.id] = fence != 0
	g.handed = viewOf(g.p.h, g.wal)
	g.note("begin", state.Term, state.Commit, g.apply.applied, g.wal.LastIndex(), fence)
	g.post(func(in *contents) { in.start = core })
	return nil
}

const appendsAhead = 1 // node/node.go

// isOfDisk reports whether the log could not write, for a fault of the disk. Recovery writes when it has
// the log begin behind a snapshot that outlives it, and the process ends then as with any other write.
func isOfDisk(err error) bool {
	return errors.Is(err, wal.ErrDiskFull) || errors.Is(err, wal.ErrPoisoned) &&
		(errors.Is(err, vfs.ErrIO) || errors.Is(err, vfs.ErrNoSpace))
}

// bootstrap is Group.bootstrap.
func (g *group) bootstrap() error {
	if g.wal.LastIndex() > 0 || g.wal.State() != (wal.State{}) || g.beginsEmpty() {
		return nil
	}
	return g.appendNow(wal.Update{
		Group: g.id,
		State: &wal.State{Term: 1, Commit: 1},
		Mark:  &wal.Mark{Index: 1, Term: 1, ConfState: g.w.voters()},
	})
}

// isNew is Group.isNew.
func (g *group) isNew() bool {
	return g.wal.LastIndex() == 0 && g.wal.State() == (wal.State{}) && g.wal.Damage() == nil
}

// wouldBeginAnew reports whether, with this host's disk, so many first members would lack everything after
// the members have changed that these take each other for a new cluster, while others have the data. An
// operator must not start them then (docs/operations.md). While the first members are all there are,
// mayWeaken keeps a quorum of them whole.
func (h *host) wouldBeginAnew() bool {
	first := h.w.plan.config.replicas
	enough := min(first-first/2+1, first) // with meetsQuorums, and this host itself
	for _, o := range h.w.oracle.groups {
		empty := 1
		for _, other := range h.w.hosts {
			v := other.promised[o.id]
			if other != h && other.isFirst() && !other.lost &&
				(v == nil || v.state.Term <= 1 && v.last() <= 1) {
				empty++
			}
		}
		if h.isFirst() && len(o.configs) > 1 && empty >= enough {
			return true
		}
	}
	return false
}

// appendNow is Node.appendNow, at a moment at which nothing is in the Ready channel.
func (g *group) appendNow(u wal.Update) error {
	if err := g.p.wal.Append([]wal.Update{u}, true); err != nil {
		return err
	}
	g.p.h.promise([]wal.Update{u})
	return nil
}

// recover is Group.recover.
func (g *group) recover() error {
	mark := g.wal.Mark()
	var damaged []error
	for _, s := range g.p.h.snaps.list(g.id) {
		if !g.fits(s, mark) && !g.outlives(s) {
			continue
		}
		err := g.apply.load(s.index)
		if err == nil {
			g.snaps.newest = s
			return g.resetBehind(s)
		}
		damaged = append(damaged, err)
	}
	if mark.Index > 1 {
		return fmt.Errorf("the log begins at index %d and no usable snapshot reaches it: %w",
			mark.Index+1, errors.Join(damaged...))
	}
	first := mark.ConfState
	switch {
	case g.beginsEmpty():
		first = &pb.ConfState{}
	case first == nil:
		first = g.firstVoters()
	}
	g.apply.begin(apply.Position{Index: mark.Index, Term: mark.Term, Members: first})
	return nil
}

func (g *group) outlives(s *snapshot) bool {
	return g.wal.Damage() != nil && s.index > g.wal.LastIndex()
}

func (g *group) resetBehind(s *snapshot) error {
	if !g.outlives(s) {
		return nil
	}
	state := g.wal.State()
	state.Term, state.Commit = max(state.Term, s.term), s.index
	return g.appendNow(wal.Update{Group: g.id, State: &state,
		Mark: &wal.Mark{Index: s.index, Term: s.term, ConfState: s.members}})
}

func (g *group) fits(s *snapshot, mark wal.Mark) bool {
	if s.index < mark.Index || s.index > g.wal.LastIndex() {
		return false
	}
	term, err := g.wal.Term(s.index)
	return err == nil && term == s.term
}

// storage is the twin of node/storage.go.
type storage struct {
	*wal.Group
	g         *group
	hardState wal.State
	confState *pb.ConfState
}

var _ raft.Storage = (*storage)(nil)

func (s *storage) InitialState() (*pb.HardState, *pb.ConfState, error) {
	return &pb.HardState{Term: new(s.hardState.Term), Vote: new(s.hardState.Vote),
		Commit: new(s.hardState.Commit)}, s.confState, nil
}
func (s *storage) FirstIndex() (uint64, error)     { return s.Group.FirstIndex(), nil }
func (s *storage) LastIndex() (uint64, error)      { return s.Group.LastIndex(), nil }
func (s *storage) Snapshot() (*pb.Snapshot, error) { return s.g.snaps.raftSnapshot() }
