package sim_test

import (
	"bytes"
	"fmt"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/node"
)

type applyTask struct {
	restore  *pb.Snapshot
	acks     []*pb.Message
	appended int
	apply    *replica.Apply
	reads    []replica.ReadRound
	snapshot bool
	stop     bool
}

// applier is the twin of node/applier.go.
type applier struct {
	g         *group
	machine   *machine
	queue     []applyTask
	scheduled bool

	stage        *apply.Stage
	applied      uint64
	waiting      []replica.ReadRound
	stopped      bool
	entriesSince uint64
	bytesSince   int64
}

func newApplier(g *group) *applier {
	a := &applier{g: g, machine: newMachine()}
	a.stage = apply.New(a.mutateMachine())
	return a
}

// begin is applier.beginAt.
func (a *applier) begin(at apply.Position) {
	beginStage(a.g.w, a.stage, at)
	a.applied = at.Index
}

// beginStage gives a stage the members that every group begins with.
func beginStage(w *world, s *apply.Stage, at apply.Position) {
	members := make([]apply.Member, 0, len(w.hosts))
	for _, h := range w.hosts {
		members = append(members, apply.Member{ID: h.id})
	}
	s.Begin(at, members)
}

func (a *applier) put(t applyTask) {
	a.queue = append(a.queue, t)
	if a.scheduled {
		return
	}
	a.scheduled = true
	c := &a.g.w.plan.config
	a.g.p.after(a.g.w.between(c.applyMin, c.applyMax), func() {
		a.scheduled = false
		tasks := a.queue
		a.queue = nil
		for _, t := range tasks {
			a.do(t)
		}
		a.g.check()
	})
}

func (a *applier) do(t applyTask) {
	if t.stop {
		a.stopped = true
		t.reads, a.waiting = append(t.reads, a.waiting...), nil
	}
	if a.stopped {
		a.refuse(t)
		return
	}
	if err := a.perform(t); err != nil {
		a.fail(t, err)
	}
}

func (a *applier) perform(t applyTask) error {
	if t.restore != nil {
		if err := a.restore(t.restore); err != nil {
			return err
		}
	}
	if len(t.acks) > 0 || t.appended > 0 {
		a.g.acknowledge(t.acks, t.appended)
	}
	if t.restore != nil {
		a.g.restoring--
	}
	if t.apply != nil {
		if err := a.applyEntries(t.apply); err != nil {
			return err
		}
		a.g.w.trace.say("n%d g%d applied %d", a.g.p.h.id, a.g.id, a.applied)
		a.g.acknowledge(t.apply.Done, 0)
	}
	for _, round := range t.reads {
		a.g.w.trace.say("n%d g%d reads of index %d at %d", a.g.p.h.id, a.g.id, round.Index, a.applied)
	}
	a.waiting = append(a.waiting, t.reads...)
	if err := a.serveReads(); err != nil {
		return err
	}
	return a.maybeSnapshot(t.snapshot)
}

func (a *applier) applyEntries(task *replica.Apply) error {
	members := task.Members
	for i, e := range task.Entries {
		index := e.GetIndex()
		var batch *replica.Batch
		if task.Batches != nil {
			batch = task.Batches[i]
		}
		var state *pb.ConfState
		for len(members) > 0 && members[0].Index <= index {
			state, members = members[0].ConfState, members[1:]
		}
		if index <= a.applied {
			a.overtaken(batch) // a snapshot was faster
			continue
		}
		if err := a.applyEntry(e, state, batch); err != nil {
			return err
		}
		a.entriesSince++
		a.bytesSince += int64(len(e.GetData()))
		a.g.w.oracle.applied(a.g, index)
	}
	return nil
}

func (a *applier) overtaken(batch *replica.Batch) {
	if batch == nil {
		return
	}
	for i, p := range batch.Proposals {
		batch.Proposals[i] = nil
		p.(*call).finish(node.Result{}, unknown("a snapshot took the place of the entry"))
	}
}

func (a *applier) applyEntry(e *pb.Entry, members *pb.ConfState, batch *replica.Batch) error {
	completed := 0
	var done func(int, []byte, error)
	if batch != nil {
		done = func(i int, answer []byte, refusal error) {
			c := batch.Proposals[i].(*call)
			batch.Proposals[i] = nil
			completed++
			c.finish(node.Result{Index: e.GetIndex(), Answer: answer}, refusal)
		}
	}
	if err := a.stage.Entry(a.mutateTime(e), members, done); err != nil {
		return err
	}
	if batch != nil && completed != len(batch.Proposals) {
		return fmt.Errorf("entry %d has %d commands, its batch %d", e.GetIndex(), completed,
			len(batch.Proposals))
	}
	a.applied = a.stage.Index()
	return nil
}

func (a *applier) serveReads() error {
	kept := a.waiting[:0]
	for _, round := range a.waiting {
		if round.Index > a.applied && !a.g.w.is(readBeforeApply) {
			kept = append(kept, round)
			continue
		}
		for _, r := range round.Reads {
			if err := a.serveRead(r); err != nil {
				return err
			}
		}
	}
	clear(a.waiting[len(kept):])
	a.waiting = kept
	return nil
}

func (a *applier) serveRead(r replica.Read) error {
	c, ok := r.(*call)
	if !ok {
		a.g.caughtUp = true
		return nil
	}
	if !c.Take() {
		c.finish(node.Result{}, node.ErrNoLeader)
		return nil
	}
	answer, err := a.stage.Query(c.payload)
	if err != nil {
		return err
	}
	c.finish(node.Result{Index: a.applied, Answer: answer}, nil)
	return nil
}

func (a *applier) fail(t applyTask, err error) {
	a.stopped = true
	a.g.fail(err)
	t.reads = append(t.reads, a.waiting...)
	a.waiting = nil
	a.refuse(t)
}

func (a *applier) refuse(t applyTask) {
	err := a.g.stopError()
	if t.apply != nil {
		for _, b := range t.apply.Batches {
			if b == nil {
				continue
			}
			for _, p := range b.Proposals {
				if p != nil {
					p.(*call).finish(node.Result{}, unknown(err.Error()))
				}
			}
		}
	}
	for _, round := range t.reads {
		for _, r := range round.Reads {
			a.g.finishRead(r, err)
		}
	}
}

// load is applier.load of node/snapshots.go.
func (a *applier) load(index uint64) error {
	s := a.g.p.h.snaps.find(a.g.id, index)
	if s == nil {
		return fmt.Errorf("snapshot %d of group %d is gone", index, a.g.id)
	}
	if s.rotten {
		return fmt.Errorf("snapshot %d of group %d is damaged", index, a.g.id)
	}
	at := apply.Position{Index: s.index, Term: s.term, Clock: s.clock, Members: s.members}
	if err := a.stage.Restore(at, bytes.NewReader(s.body)); err != nil {
		return fmt.Errorf("restore snapshot %d of group %d: %w", index, a.g.id, err)
	}
	if a.g.w.is(forgetSessions) {
		beginStage(a.g.w, a.stage, at)
	}
	a.applied = a.stage.Index()
	a.entriesSince, a.bytesSince = 0, 0
	a.g.w.oracle.restored(a.g, s.index)
	return nil
}

func (a *applier) restore(s *pb.Snapshot) error {
	index := s.GetMetadata().GetIndex()
	if a.g.w.is(skipRestore) {
		a.begin(apply.Position{Index: index, Term: s.GetMetadata().GetTerm(),
			Members: s.GetMetadata().GetConfState()})
		return a.g.snaps.settle(index)
	}
	if err := a.load(index); err != nil {
		return err
	}
	a.g.note("restored", index)
	return a.g.snaps.settle(index)
}
