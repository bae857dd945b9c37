package node

import (
	"errors"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/wal"
)

// ready is one element of the Ready channel: what one group wants persisted.
type ready struct {
	group  *Group
	append *replica.Append
}

// readiesAtOnce bounds what one write of the log takes.
const readiesAtOnce = 512

// appender is the log writer: one goroutine that takes everything waiting in the Ready channel,
// writes it with one write and one sync, and then delivers the responses in order.
type appender struct {
	node    *Node
	batch   []ready
	updates []wal.Update
	// upkeep is work on the log that is not an append: compaction. It is bounded by the groups,
	// which have at most one each.
	upkeep *queue[func()]
	ended  chan struct{}
}

func newAppender(n *Node) *appender {
	return &appender{node: n, upkeep: newQueue[func()](), ended: make(chan struct{})}
}

// run ends when the Ready channel is closed.
func (a *appender) run() {
	defer close(a.ended)
	for {
		select {
		case r, ok := <-a.node.ready:
			if !ok {
				a.finish()
				return
			}
			a.collect(r)
			if err := a.persist(); err != nil {
				a.node.fail(err)
				a.drain()
				return
			}
			a.deliver()
		case <-a.upkeep.wake:
			a.maintain()
		}
	}
}

// collect takes what else waits in the Ready channel.
func (a *appender) collect(first ready) {
	a.batch = append(a.batch[:0], first)
	first.group.worker.read()
	for len(a.batch) < readiesAtOnce {
		select {
		case r, ok := <-a.node.ready:
			if !ok {
				return
			}
			r.group.worker.read()
			a.batch = append(a.batch, r)
		default:
			return
		}
	}
}

// persist writes the batch. A commit index alone is not worth a write: it goes along with the
// group's next update, and after a crash the leader tells it again.
func (a *appender) persist() error {
	clear(a.updates)
	a.updates = a.updates[:0]
	needSync := false
	for _, r := range a.batch {
		if s := r.append.State; s != nil {
			r.group.hardState = wal.State{Term: s.GetTerm(), Vote: s.GetVote(),
				Commit: s.GetCommit()}
		}
		if !r.append.Sync {
			continue
		}
		needSync = true
		a.updates = append(a.updates, wal.Update{
			Group:   r.group.id,
			State:   new(r.group.hardState),
			Mark:    markOf(r.append.Snapshot),
			Entries: r.append.Entries,
		})
	}
	if len(a.updates) == 0 {
		return nil
	}
	return a.append(a.updates, needSync)
}

// append writes to the log. While the disk has no room it waits for some: what raft has handed out
// cannot be taken back, and compaction may make room.
func (a *appender) append(updates []wal.Update, needSync bool) error {
	for {
		err := a.node.wal.Append(updates, needSync)
		if !errors.Is(err, wal.ErrDiskFull) {
			a.node.setDiskFull(false)
			return err
		}
		a.node.setDiskFull(true)
		select {
		case <-a.upkeep.wake:
			a.maintain()
		case <-time.After(a.node.options.Tick):
		case <-a.node.stopping:
			return err
		}
	}
}

func (a *appender) maintain() {
	for _, work := range a.upkeep.take() {
		work()
	}
}

// deliver hands out what waited for the batch to be durable, in order.
func (a *appender) deliver() {
	for _, r := range a.batch {
		g := r.group
		var own, others []*pb.Message
		for _, m := range r.append.Responses {
			if m.GetTo() == g.node.options.ID {
				own = append(own, m)
			} else {
				others = append(others, m)
			}
		}
		g.send(others)
		appended := 0
		if len(r.append.Entries) > 0 {
			appended = 1
		}
		if r.append.Snapshot != nil || g.restoring.Load() > 0 {
			// The response to a snapshot tells raft that the state machine holds it, so it
			// follows the restore, and what comes later follows it.
			if r.append.Snapshot != nil {
				g.restoring.Add(1)
			}
			g.apply.put(applyTask{restore: r.append.Snapshot, acks: own, appended: appended})
			continue
		}
		if len(own) > 0 || appended > 0 {
			g.acknowledge(own, appended)
		}
	}
	clear(a.batch)
}

// drain keeps the Ready channel moving after the log has failed: nothing in it is answered, so no
// peer and no client learns of anything that is not on the disk.
func (a *appender) drain() {
	for r := range a.node.ready {
		r.group.worker.read()
	}
}

// finish writes the commit indexes that were not worth a write, so that a clean start knows them.
func (a *appender) finish() {
	var updates []wal.Update
	for _, g := range a.node.Groups() {
		if g.hardState != g.wal.State() && g.hardState.Term != 0 {
			updates = append(updates, wal.Update{Group: g.id, State: new(g.hardState)})
		}
	}
	if len(updates) == 0 {
		return
	}
	if err := a.node.wal.Append(updates, true); err != nil {
		a.node.log.Warn("commit index not written at the end", "err", err)
	}
}

func markOf(s *pb.Snapshot) *wal.Mark {
	if s == nil {
		return nil
	}
	m := s.GetMetadata()
	return &wal.Mark{Index: m.GetIndex(), Term: m.GetTerm(), ConfState: m.GetConfState()}
}
