package sim_test

import (
	"bytes"
	"fmt"
	"slices"

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
	sweep    bool
	snapshot bool
	stop     bool
}

// applier is the twin of node/applier.go.
type applier struct {
	g         *group
	machine   *machine
	queue     []applyTask
	memory    []applyTask // of queue as of the last turn
	scheduled bool
	turns     func() // turn

	stage        *apply.Stage
	directory    *apply.Directory
	applied      uint64
	waiting      []replica.ReadRound
	stopped      bool
	entriesSince uint64
	bytesSince   int64
}

func newApplier(g *group) *applier {
	a := &applier{g: g, machine: newMachine()}
	a.turns = a.turn
	a.stage = apply.New(a.mutateMachine())
	a.directory = a.stage.Directory()
	return a
}

// begin is applier.beginAt.
func (a *applier) begin(at apply.Position) {
	a.stage.Begin(at, nil)
	a.publish()
}

func (a *applier) put(t applyTask) {
	a.queue = append(a.queue, t)
	if a.scheduled {
		return
	}
	a.scheduled = true
	c := &a.g.w.plan.config
	a.g.p.after(a.g.w.between(c.applyMin, c.applyMax), a.turns)
}

func (a *applier) turn() {
	a.scheduled = false
	tasks := a.queue
	a.queue, a.memory = a.memory[:0], nil
	for _, t := range tasks {
		a.do(t)
	}
	clear(tasks)
	a.memory = tasks
	a.g.check()
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
		version := a.directory.Version
		a.g.post(func(in *contents) {
			in.events = append(in.events, func(r *replica.Replica) { r.Restored(version) })
		})
	}
	if len(t.acks) > 0 || t.appended > 0 {
		a.g.acknowledge(t.acks, t.appended)
	}
	if t.restore != nil {
		a.g.restoring--
	}
	if t.apply != nil {
		changes := len(t.apply.Members) > 0
		if err := a.applyEntries(t.apply); err != nil {
			return err
		}
		a.g.w.trace.say("n%d g%d applied %d", a.g.p.h.id, a.g.id, a.applied)
		if changes {
			a.g.acknowledge(t.apply.Done, 0)
		} else {
			a.g.postApplied(t.apply.Done)
		}
	}
	for _, round := range t.reads {
		a.g.w.trace.say("n%d g%d reads of index %d at %d", a.g.p.h.id, a.g.id, round.Index, a.applied)
	}
	a.waiting = append(a.waiting, t.reads...)
	late := slices.ContainsFunc(t.reads, func(round replica.ReadRound) bool {
		return slices.ContainsFunc(round.Reads, replica.Read.Withdrawn)
	})
	if t.sweep || late {
		a.sweep()
	}
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
			task.Members = a.endChanges(task.Members, index)
			continue
		}
		if err := a.applyEntry(e, state, batch); err != nil {
			return err
		}
		task.Members = a.endChanges(task.Members, index)
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
	if err := a.stage.Entry(a.mutateTime(a.g.p.h.entry(e)), members, done); err != nil {
		return err
	}
	if batch != nil && completed != len(batch.Proposals) {
		return fmt.Errorf("entry %d has %d commands, its batch %d", e.GetIndex(), completed,
			len(batch.Proposals))
	}
	a.publish()
	if e.GetType() != pb.EntryNormal {
		a.g.checkDirectory()
	}
	return nil
}

// sweepSoon is applier.sweepSoon.
func (a *applier) sweepSoon() {
	if len(a.waiting) > 0 && !a.g.p.dead {
		a.put(applyTask{sweep: true})
	}
}

// sweep is applier.sweep.
func (a *applier) sweep() {
	for i := range a.waiting {
		var kept []replica.Read
		for _, r := range a.waiting[i].Reads {
			if a.g.outside() {
				a.g.finishRead(r, node.ErrRemoved)
			} else if r.Withdrawn() {
				a.g.finishRead(r, node.ErrNoLeader)
			} else {
				kept = append(kept, r)
			}
		}
		a.waiting[i].Reads = kept
	}
	a.waiting = slices.DeleteFunc(a.waiting, func(r replica.ReadRound) bool { return len(r.Reads) == 0 })
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
		for _, m := range t.apply.Members {
			if m.Change != nil {
				m.Change.(*change).end(err, true)
			}
		}
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
	if err := a.stage.Restore(at, bytes.NewReader(a.g.p.h.body(s))); err != nil {
		return fmt.Errorf("restore snapshot %d of group %d: %w", index, a.g.id, err)
	}
	if a.g.w.is(forgetSessions) {
		a.stage.Begin(at, a.stage.Directory().Members)
	}
	a.publish()
	a.entriesSince, a.bytesSince = 0, 0
	a.g.w.oracle.restored(a.g, s.index)
	a.g.checkDirectory()
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
