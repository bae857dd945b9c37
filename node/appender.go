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
	group   *Group
	append  *replica.Append // nil = nothing
	unfence bool            // what came before in the channel makes the group's log whole
	last    func()          // not nil for the last one of a group: called when all are done
}

// One write of the log takes at most so much, but for one entry that is larger.
const (
	readiesAtOnce = 512
	bytesAtOnce   = 32 << 20
)

// bytes is about what the log writes for r.
func (r ready) bytes() (n int) {
	if r.append == nil {
		return 0
	}
	for _, e := range r.append.Entries {
		n += len(e.GetData())
	}
	return n
}

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
			a.unfence()
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
	size := first.bytes()
	for len(a.batch) < readiesAtOnce && size < bytesAtOnce {
		select {
		case r, ok := <-a.node.ready:
			if !ok {
				return
			}
			r.group.worker.read()
			a.batch = append(a.batch, r)
			size += r.bytes()
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
		if r.append == nil {
			continue
		}
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
		begun := time.Now()
		err := a.node.wal.Append(updates, needSync)
		a.node.slow(StageLog, 0, begun)
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

// maintain does the upkeep. Who asked for it hears of an error, and may only end a group with it; a log
// that was poisoned is that of all groups, also when none of them ever appends again.
func (a *appender) maintain() {
	for _, work := range a.upkeep.take() {
		work()
	}
	if err := a.node.wal.Err(); err != nil {
		a.node.fail(err)
	}
}

// unfence lifts the fences of groups whose logs are whole with what has just been persisted.
func (a *appender) unfence() {
	for _, r := range a.batch {
		if r.unfence && r.group.wal.Damage() != nil { // else it waited to be added
			a.lift(r.group)
		}
	}
}

// lift removes the fence of a group from the log. While the disk is full it is tried again: until
// then a restart finds the group fenced, which costs time and nothing else.
func (a *appender) lift(g *Group) {
	if g.removed.Load() {
		return
	}
	err := a.node.wal.Unfence(g.id)
	switch {
	case err == nil:
		g.log.Info("fence lifted: the log is whole again")
		g.emit(Event{Kind: GroupUnfenced})
	case errors.Is(err, wal.ErrDiskFull):
		a.later(func() { a.lift(g) })
	default:
		a.node.fail(err)
	}
}

// later has work done after the next tick.
func (a *appender) later(work func()) {
	time.AfterFunc(a.node.options.Tick, func() { a.upkeep.put(work) })
}

// deliver hands out what waited for the batch to be durable, in order.
func (a *appender) deliver() {
	for _, r := range a.batch {
		if r.append != nil {
			r.group.deliver(r.append)
		}
		if r.last != nil {
			r.last()
		}
	}
	clear(a.batch)
}

// deliver hands out the responses of an append that is durable: those to peers to the transport,
// those to the core into the inbox.
func (g *Group) deliver(done *replica.Append) {
	own := g.answer(done.Responses)
	appended := min(len(done.Entries), 1)
	if done.Snapshot == nil && g.restoring.Load() == 0 {
		if len(own) > 0 || appended > 0 {
			g.postAppended(own, appended)
		}
		return
	}
	// The response to a snapshot tells raft that the state machine holds it, so it follows the
	// restore, and what comes later follows it.
	if done.Snapshot != nil {
		g.restoring.Add(1)
	}
	g.apply.put(applyTask{restore: done.Snapshot, acks: own, appended: appended})
}

// answer sends responses to peers and returns those to the core. Raft puts these behind each other, so
// that they are a part of the slice.
func (g *Group) answer(responses []*pb.Message) (own []*pb.Message) {
	for len(responses) > 0 {
		mine, n := responses[0].GetTo() == g.node.options.ID, 1
		for n < len(responses) && (responses[n].GetTo() == g.node.options.ID) == mine {
			n++
		}
		part := responses[:n:n]
		switch {
		case !mine:
			g.send(part)
		case own == nil:
			own = part
		default:
			own = append(own, part...)
		}
		responses = responses[n:]
	}
	return own
}

// drain keeps the Ready channel moving after the log has failed: nothing in it is answered, so no
// peer and no client learns of anything that is not on the disk. Groups that are given up end all the
// same, those in the batch that failed among them.
func (a *appender) drain() {
	for _, r := range a.batch {
		if r.last != nil {
			r.last()
		}
	}
	for r := range a.node.ready {
		r.group.worker.read()
		if r.last != nil {
			r.last()
		}
	}
}

// finish writes the commit indexes that were not worth a write, so that a clean start knows them.
func (a *appender) finish() {
	var updates []wal.Update
	for _, g := range a.node.Groups() {
		if g.begun.Load() && g.hardState != g.wal.State() && g.hardState.Term != 0 {
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
