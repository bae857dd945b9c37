package node

import (
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/statemachine"
)

// applyTask is one step for the apply stage; the fields are worked off in their order.
type applyTask struct {
	restore  *pb.Snapshot        // load this snapshot, which the log has been marked with
	acks     []*pb.Message       // storage responses that had to wait for a restore
	appended int                 // appends that became durable with them
	apply    *replica.Apply      // committed entries
	reads    []replica.ReadRound // confirmed reads
	sweep    bool                // end the reads whose waiters have left
	snapshot bool                // cut a snapshot now
	stop     bool                // end everything that comes from now on
}

// applier is the apply stage of one group: its serial alone touches the state machine. What waits
// there is bounded by raft's limit on unacknowledged apply bytes and by admission.
type applier struct {
	*serial[applyTask]
	group *Group

	// What anybody may read: how far the stage is, and who the members are there.
	applied   atomic.Uint64
	directory atomic.Pointer[apply.Directory]

	// The rest is the serial's own.
	stage     *apply.Stage
	batch     *replica.Batch // of the entry under way
	completed int            // of the commands of batch
	done      func(i int, answer []byte, refusal error)
	parked    parked
	stopped   bool
	// What was applied since the last snapshot.
	entriesSince uint64
	bytesSince   int64
}

func newApplier(g *Group, machine statemachine.Machine) *applier {
	a := &applier{group: g, stage: apply.New(machine)}
	a.done = a.complete
	a.directory.Store(a.stage.Directory())
	a.serial = newSerial(g.node.crew, a.do)
	return a
}

// close ends the stage and refuses what it has not done.
func (a *applier) close() {
	for _, t := range a.end() {
		a.refuse(&t)
	}
	a.refuse(&applyTask{reads: a.parked.take()})
}

func (a *applier) do(task applyTask) {
	t := &task
	if t.stop {
		a.stopped = true
		t.reads = append(t.reads, a.parked.take()...)
	}
	if a.stopped {
		a.refuse(t)
		return
	}
	defer func() {
		if v := recover(); v != nil {
			a.group.log.Error("panic", "where", "state machine", "value", v,
				"stack", string(debug.Stack()))
			a.fail(t, fmt.Errorf("panic in the state machine: %v", v))
		}
	}()
	begun := time.Now()
	if err := a.perform(t); err != nil {
		a.fail(t, err)
	}
	a.group.node.slow(StageApply, a.group.id, begun)
}

func (a *applier) perform(t *applyTask) error {
	if t.restore != nil {
		if err := a.restore(t.restore); err != nil {
			return err
		}
		// Before its acknowledgement, behind which more changes are handed out.
		version := a.directory.Load().Version
		a.group.post(func(in *contents) {
			in.events = append(in.events, func(r *replica.Replica) { r.Restored(version) })
		})
	}
	if len(t.acks) > 0 || t.appended > 0 {
		a.group.acknowledge(t.acks, t.appended)
	}
	if t.restore != nil {
		a.group.restoring.Add(-1) // behind its acknowledgement: later ones follow it
	}
	if t.apply != nil {
		changes := len(t.apply.Members) > 0
		if err := a.applyEntries(t.apply); err != nil {
			return err
		}
		a.observeCatalog()
		if changes { // raft may go on with the next one
			a.group.acknowledge(t.apply.Done, 0)
		} else {
			a.group.postApplied(t.apply.Done)
		}
	}
	a.parked.add(t.reads)
	// A waiter that left before its read was parked has not seen that it should ask for a sweep.
	late := slices.ContainsFunc(t.reads, hasLeft)
	t.reads = nil
	if t.sweep || late {
		a.sweep()
	}
	if err := a.serveReads(); err != nil {
		return err
	}
	return a.maybeSnapshot(t.snapshot)
}

// applyEntries applies committed entries and completes the commands of this node among them.
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
		if index <= a.applied.Load() {
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
	}
	return nil
}

// overtaken ends commands whose entry a snapshot holds: they were applied, and the answers are lost.
func (a *applier) overtaken(batch *replica.Batch) {
	if batch == nil {
		return
	}
	for i, p := range batch.Proposals {
		batch.Proposals[i] = nil
		p.(*Call).finish(Result{}, unknown("a snapshot took the place of the entry"))
	}
}

func (a *applier) applyEntry(e *pb.Entry, members *pb.ConfState, batch *replica.Batch) error {
	var done func(int, []byte, error)
	if batch != nil {
		a.batch, a.completed = batch, 0
		done = a.done
	}
	if err := a.stage.Entry(e, members, done); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if batch != nil && a.completed != len(batch.Proposals) {
		panic(fmt.Sprintf("entry %d has %d commands, its batch %d", e.GetIndex(), a.completed,
			len(batch.Proposals)))
	}
	a.batch = nil
	a.publish()
	return nil
}

// endChanges ends this node's changes of the members up to index, which are applied, or surely are in
// the snapshot that was restored, and returns the rest.
func (a *applier) endChanges(members []replica.Membership, index uint64) []replica.Membership {
	for len(members) > 0 && members[0].Index <= index {
		if c := members[0].Change; c != nil {
			c.(*memberChange).end(nil, false)
		}
		members = members[1:]
	}
	return members
}

// complete ends a command of this node. It leaves the batch, so that a failure later in the task
// does not end it again.
func (a *applier) complete(i int, answer []byte, refusal error) {
	call := a.batch.Proposals[i].(*Call)
	a.batch.Proposals[i] = nil
	a.completed++
	call.finish(Result{Index: a.stage.Index(), Answer: answer}, refusal)
}

// publish lets others see how far the stage is.
func (a *applier) publish() {
	a.applied.Store(a.stage.Index())
	if d := a.stage.Directory(); d != a.directory.Load() {
		a.group.directoryChanged(a.directory.Swap(d), d)
	}
}

// observeCatalog has the node follow what group 1 says about the others.
func (a *applier) observeCatalog() {
	if a.group.id == apply.FirstGroup {
		a.group.node.keeper.observe(a.stage)
	}
}

// beginAt is the beginning of a group of which nothing is applied.
func (a *applier) beginAt(at apply.Position) {
	// The directory of the first members is empty: each node has them in its own options, which may
	// differ, and the directory may not.
	a.stage.Begin(at, nil)
	a.publish()
}

// fail stops the group; what the task and the queue still hold is refused.
func (a *applier) fail(t *applyTask, err error) {
	a.stopped = true
	a.group.fail(err)
	t.reads = append(t.reads, a.parked.take()...)
	a.refuse(t)
}

// refuse ends the commands and reads of a task that is not performed. The commands are committed, so
// other nodes apply them: their outcome is not known here.
func (a *applier) refuse(t *applyTask) {
	err := a.group.stopError()
	if t.apply != nil {
		for _, m := range t.apply.Members {
			if m.Change != nil {
				m.Change.(*memberChange).end(err, true)
			}
		}
		for _, b := range t.apply.Batches {
			if b == nil {
				continue
			}
			for _, p := range b.Proposals {
				if p != nil {
					p.(*Call).finish(Result{}, unknown(err.Error()))
				}
			}
		}
	}
	for _, round := range t.reads {
		for _, r := range round.Reads {
			a.group.finishRead(r, err)
		}
	}
}
