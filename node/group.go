package node

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/wal"
)

// Group is one raft group on this node. Its methods may be called from any goroutine.
//
// Its parts have one owner each: the core belongs to the worker's event loop, the state machine to
// the apply stage, the log to the node's log writer. They talk through the inbox, the Ready channel
// and the apply queue.
type Group struct {
	id     uint64
	node   *Node
	worker *worker
	log    *slog.Logger
	wal    *wal.Group

	admission admission
	inbox     inbox
	scheduled atomic.Bool // a turn is due
	starting  sync.WaitGroup

	core    *replica.Replica   // the worker's
	retries []replica.Proposal // the worker's: go to the core again at the next tick
	waits   bool               // the worker's: on its list of those without room
	holds   bool               // the worker's: on its list of those whose cores hold something back
	defers  deferral           // the worker's: what it has told the inbox
	fault   error              // the worker's: what the core reported last
	place   int                // the worker's: among those that get ticks, from 1; 0 = gets none
	ending  func()             // the worker's: to be called when all before it is in the log

	// See quiet.go. All are the worker's, and resting is read elsewhere.
	resting    atomic.Bool
	idle       int   // ticks for which nothing was asked of the group
	restsSince int64 // in ticks of the pulse

	apply     *applier
	snapshots snapshots
	hardState wal.State    // the log writer's: the newest state raft has handed out
	restoring atomic.Int64 // installed snapshots on their way to the state machine

	// settled is the commit index while an answer that names it tells the core nothing that it
	// waits for; else 0. The worker's, and read elsewhere.
	settled atomic.Uint64

	// What the group looks like, for Status and Ready; written by the stage that knows.
	role, lead, term, commit atomic.Uint64 // the worker's
	caughtUp                 atomic.Bool   // this life of the node has served a linearizable read
	probing                  bool          // the worker's: that first read is under way

	members  memberState
	mender   atomic.Pointer[mender] // fills a hole in the log, before the group begins
	begun    atomic.Bool            // core and state machine are there
	fenced   atomic.Bool            // the log has lost its end, and the fence stands
	newcomer atomic.Bool            // the log is empty, and whether it was lost is not known yet
	created  bool                   // the catalog has it
	removed  atomic.Bool            // the group is no more
	failOnce sync.Once
	failed   atomic.Pointer[string]
}

// Go queues a command for the log and returns at once. The command's memory passes to the node.
// What cannot be admitted is finished at once, with the reason.
//
// Calls keep their order: one that is applied is applied after all that were made before it by the
// same goroutine and are applied. That is why a call that fails for sure because the leader changed
// ends with a [NotLeaderError] here, while Propose tries it again.
func (g *Group) Go(command []byte) *Call { return g.start(newCall(g, command)) }

func (g *Group) start(c *Call) *Call {
	if err := g.admitCommand(c); err != nil {
		c.refuse(err)
		return c
	}
	return g.queue(c)
}

// run waits for room, queues a command for the log and waits for its end.
func (g *Group) run(ctx context.Context, c *Call) (Result, error) {
	err := g.checkCommand(c)
	if err == nil {
		err = g.awaitAdmission(ctx, c)
	}
	if err != nil {
		c.refuse(err)
		return Result{}, err
	}
	return g.queue(c).Wait(ctx)
}

// queue puts an admitted command into the inbox.
func (g *Group) queue(c *Call) *Call {
	if !g.postCall(c) {
		c.finish(Result{}, g.stopError())
	}
	return c
}

// Propose replicates a command and returns the state machine's answer. The command's memory passes
// to the node. While there is no room it waits, behind those who came before. A command that a change
// of leader has surely lost is tried again until ctx ends. [AdviceOf] tells what an error means.
func (g *Group) Propose(ctx context.Context, command []byte) (Result, error) {
	c := newCall(g, command)
	c.retry = true
	result, err := g.run(ctx, c)
	c.recycle()
	return result, err
}

// ID returns the id of the group.
func (g *Group) ID() uint64 { return g.id }

// Leader returns the node that leads the group as far as this node knows, 0 = nobody.
func (g *Group) Leader() uint64 { return g.lead.Load() }

// admitCommand admits a command at once, or says why not.
func (g *Group) admitCommand(c *Call) error {
	if err := g.checkCommand(c); err != nil {
		return err
	}
	return g.tryAdmission(c)
}

// admit admits a read at once, or says why not.
func (g *Group) admit(c *Call) error {
	if err := g.check(c); err != nil {
		return err
	}
	return g.tryAdmission(c)
}

// checkCommand says why a command cannot be taken, but for want of room in the admission. A leader
// takes none when its log has no room for the next segment: the rest of the present one is for what
// was admitted before, for votes, and for compaction. A follower passes commands on.
func (g *Group) checkCommand(c *Call) error {
	if g.leads() && (g.node.diskFull.Load() || g.node.disk.full.Load()) {
		return ErrDiskFull
	}
	return g.check(c)
}

// check says why a call cannot be taken, but for want of room in the admission.
func (g *Group) check(c *Call) error {
	if g.removed.Load() {
		return ErrGroupRemoved
	}
	if reason := g.failed.Load(); reason != nil {
		return fmt.Errorf("%w: %s", ErrGroupFailed, *reason)
	}
	if g.node.closing.Load() {
		return ErrClosed
	}
	if err := g.absence(); err != nil {
		return err
	}
	if !g.begun.Load() {
		return fmt.Errorf("%w: the group is starting", ErrNoLeader)
	}
	if n := len(c.payload); n > g.node.options.CommandBytes {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, n,
			g.node.options.CommandBytes)
	}
	return nil
}

// tryAdmission takes room for a call when there is some and nobody waits for it.
func (g *Group) tryAdmission(c *Call) error {
	if g.admission.enter(len(c.payload)) {
		return nil
	}
	return fmt.Errorf("%w: group %d has %d commands in flight, all groups together %d",
		ErrOverloaded, g.id, g.admission.group.commands(), g.admission.node.commands())
}

// awaitAdmission takes room for a call when its turn comes.
func (g *Group) awaitAdmission(ctx context.Context, c *Call) error {
	switch err := g.admission.wait(ctx, len(c.payload)); err {
	case nil:
		return nil
	case errGateEnded:
		return g.stopError()
	default:
		return fmt.Errorf("%w: no room before %w", ErrOverloaded, err)
	}
}

// turn runs on the worker: everything that waits is given to the core, and what the core wants
// done goes to the stages.
func (g *Group) turn() {
	g.scheduled.Store(false)
	in := g.empty(false)
	if in.start != nil {
		g.core = in.start
		g.worker.add(g)
	}
	if g.failed.Load() != nil {
		g.setDeferral(deferral{})
		g.refuse(in)
		g.leave(in.ending)
		return
	}
	if g.core == nil {
		return // a group that has not begun has admitted nothing, and messages are sent again
	}
	defer g.recoverPanic("event loop")
	g.listen(&in)
	// Commands and reads only wait in the core, so they go first: when a message makes raft panic
	// they are found there.
	g.retries = append(g.retries, in.retries...)
	if len(in.calls) > 0 {
		g.core.Propose(in.calls)
	}
	if len(in.reads) > 0 {
		g.core.Read(in.reads)
	}
	for _, m := range in.acks {
		g.core.Ack(m)
	}
	for range in.appended {
		g.core.Appended()
	}
	for _, r := range in.messages {
		g.drop(r, g.core.Step(r.from, r.m))
	}
	for _, event := range in.events {
		event(g.core)
	}
	g.collect()
	g.agree(in.whispers)
	g.reuse(in)
}

// drop notes a message that the core has refused, once for each kind of refusal in a row.
func (g *Group) drop(r received, err error) {
	if err == nil {
		return
	}
	if fault := g.core.Status().Fault; fault != nil {
		g.fail(fault)
		return
	}
	level := slog.LevelDebug
	if g.fault == nil || g.fault.Error() != err.Error() {
		level = slog.LevelWarn
	}
	g.fault = err
	g.log.Log(context.Background(), level, "message dropped", "from", r.from, "err", err)
}

// tick runs on the worker, once for each tick of the clock. While the disk hangs a leader hands over
// and anybody else stands still, because an election needs a tick to begin.
func (g *Group) tick(diskHung bool) {
	if g.defers != (deferral{}) || g.settled.Load() != 0 {
		g.turn() // nothing is deferred for longer than a tick
	}
	if g.core == nil || g.failed.Load() != nil {
		return
	}
	defer g.recoverPanic("event loop")
	leads := g.leads()
	if diskHung && leads {
		if to := g.core.HandOver(); to != 0 {
			g.log.Warn("the disk hangs: handing the leadership over", "to", to)
		}
	}
	switch {
	case g.outside():
		g.core.TickOutside()
		g.endHeld()
	case !diskHung || leads:
		g.core.Tick()
	}
	g.snapshots.unpin(g.core)
	if calls := g.retries; len(calls) > 0 {
		g.retries = nil
		g.core.Propose(calls)
	}
	// Also with a leader, which may not answer: a learner takes one for its leader until another one
	// tells otherwise.
	withdrawn, reads := g.core.Sweep()
	g.finishAll(withdrawn, ErrNoLeader)
	for _, r := range reads {
		g.finishRead(r, ErrNoLeader)
	}
	g.collect()
	g.tryRest()
}

// endHeld ends what the core of a node that was removed holds: nobody answers it any more. What is in
// the log may have been applied elsewhere.
func (g *Group) endHeld() {
	err := fmt.Errorf("%w: group %d", ErrRemoved, g.id)
	queued, placed := g.core.Pending()
	g.finishAll(queued, err)
	g.finishAll(placed, unknown(err.Error()))
	for _, r := range g.core.PendingReads() {
		g.finishRead(r, err)
	}
	g.probing = g.caughtUp.Load() // else the node's own read was among them
	ends := g.core.PendingChanges()
	for i := range ends {
		ends[i].Err = cmp.Or(ends[i].Err, err)
	}
	g.endChanges(ends)
	g.apply.sweepSoon()
}

// collect hands the core's effects to the stages for as long as there are any and the Ready channel
// has room.
func (g *Group) collect() {
	for g.core.HasReady() && g.failed.Load() == nil {
		if !g.worker.room() {
			g.awaitRoom()
			break
		}
		now := time.Now()
		g.carry(g.core.Ready(now.UnixNano(), int64(now.Sub(g.node.started))))
	}
	if g.core.Holding() {
		g.worker.holding.add(g)
	}
	g.settled.Store(g.core.Settled())
	g.setDeferral(deferral{calls: g.core.Saturated(), reads: g.core.Confirming(),
		appended: !g.core.AwaitsAppended(), applied: !g.core.AwaitsApplied()})
}

// awaitRoom has resume called when the Ready channel has room again.
func (g *Group) awaitRoom() {
	if !g.waits {
		g.waits = true
		g.worker.waiting = append(g.worker.waiting, g)
	}
}

// resume goes on collecting when the Ready channel has room again.
func (g *Group) resume() {
	g.waits = false
	if g.ending != nil {
		g.leave(nil)
		return
	}
	if g.core == nil {
		return // the group has left meanwhile
	}
	defer g.recoverPanic("event loop")
	g.collect()
}

// carry gives each part of a Ready to its stage. None of the calls waits.
func (g *Group) carry(rd replica.Ready) {
	g.observe(rd.Changed) // first: a peer that asks for the term must not hear an older one
	if rd.Append != nil {
		g.noteChanges(rd.Append)
	}
	g.send(rd.Messages)
	if rd.Unfenced {
		g.fenced.Store(false)
	}
	if rd.Append != nil || rd.Unfenced {
		g.worker.unread.Add(1)
		g.node.ready <- ready{group: g, append: rd.Append, unfence: rd.Unfenced}
	}
	g.carryMembers(&rd) // before the apply stage, whose own rd.Apply is from then on
	if rd.Apply != nil || len(rd.Reads) > 0 {
		g.apply.put(applyTask{apply: rd.Apply, reads: rd.Reads})
	}
	for _, lost := range rd.Lost {
		g.finishLost(lost)
	}
	if len(rd.Forward) > 0 {
		g.node.relays.forward(g, g.core.Status().Leader, rd.Forward)
	}
}

// observe publishes the core's state, and asks for this life's first read.
func (g *Group) observe(changed bool) {
	s := g.core.Status()
	g.commit.Store(s.Commit)
	if changed {
		g.observeLeader(&s)
	}
	if s.Leader != raft.None && !g.probing && !g.outside() {
		// The first linearizable read of this life proves that the group has caught up.
		g.probing = true
		g.core.Read([]replica.Read{probe{g}})
	}
}

// observeLeader publishes a new leader, role or term, and logs a line.
func (g *Group) observeLeader(s *replica.Status) {
	g.role.Store(uint64(s.Role))
	g.term.Store(s.Term)
	if g.lead.Swap(s.Leader) != s.Leader || s.Leader == g.node.options.ID {
		g.log.Info("leader changed", "leader", s.Leader, "term", s.Term, "role", roleName(s.Role))
		g.emit(Event{Kind: LeaderChanged, Peer: s.Leader, Term: s.Term, Index: s.Commit})
	}
	if s.Leader != raft.None {
		g.members.gone.Store(nil) // somebody counts this node as a member
	}
}

// send gives messages to the transport, those of one peer together.
func (g *Group) send(messages []*pb.Message) {
	for i := 0; i < len(messages); {
		to, end := messages[i].GetTo(), i+1
		if messages[i].GetType() == pb.MsgSnap {
			g.snapshots.send(to, messages[i])
			i++
			continue
		}
		for end < len(messages) && messages[end].GetTo() == to &&
			messages[end].GetType() != pb.MsgSnap {
			end++
		}
		g.node.transport.SendRaft(to, g.id, messages[i:end])
		i = end
	}
}

// finishLost ends commands that left the core without being applied here. Those that surely were
// not are tried again when their caller has asked for it.
func (g *Group) finishLost(lost replica.Lost) {
	for _, p := range lost.Proposals {
		c := p.(*Call)
		switch {
		case lost.Unknown:
			c.finish(Result{}, unknown(lost.Err.Error()))
		case lost.Err == replica.ErrWithdrawn:
			c.finish(Result{}, ErrNoLeader)
		case lost.Err == replica.ErrOverwritten && c.retry:
			c.Release()
			g.retries = append(g.retries, c)
		case lost.Err == replica.ErrOverwritten || lost.Err == replica.ErrNotLeader:
			c.finish(Result{}, &NotLeaderError{Leader: g.lead.Load()})
		default:
			c.finish(Result{}, lost.Err)
		}
	}
}

func (g *Group) finishAll(proposals []replica.Proposal, err error) {
	for _, p := range proposals {
		p.(*Call).finish(Result{}, err)
	}
}

func (g *Group) finishRead(r replica.Read, err error) {
	if c, ok := r.(*Call); ok {
		c.finish(Result{}, err)
	}
}

// refuse ends everything that waits in the inbox and the core of a group that has stopped. What is
// in the log may have been applied elsewhere.
func (g *Group) refuse(in contents) {
	err := g.stopError()
	g.finishAll(append(append(in.calls, in.retries...), g.retries...), err)
	g.retries = nil
	reads := in.reads
	if g.core != nil {
		queued, placed := g.core.Pending()
		g.finishAll(queued, err)
		g.finishAll(placed, unknown(err.Error()))
		reads = append(reads, g.core.PendingReads()...)
		g.endChanges(g.core.PendingChanges())
	}
	for _, r := range reads {
		g.finishRead(r, err)
	}
}

func (g *Group) stopError() error {
	if g.node.closing.Load() {
		return ErrClosed
	}
	if g.removed.Load() {
		return ErrGroupRemoved
	}
	return fmt.Errorf("%w: %s", ErrGroupFailed, *g.failed.Load())
}

func (g *Group) recoverPanic(where string) {
	if v := recover(); v != nil {
		g.log.Error("panic", "where", where, "value", v, "stack", string(debug.Stack()))
		g.fail(fmt.Errorf("panic in the %s: %v", where, v))
	}
}

// fail stops the group on this node: it takes no more messages, ticks or commands, so that another
// node leads it. The other groups go on.
func (g *Group) fail(err error) {
	g.failOnce.Do(func() {
		reason := err.Error()
		leads := g.leads()
		g.failed.Store(&reason)
		if leads {
			g.stirFollowers()
		}
		g.log.Error("group stopped on this node", "err", err)
		g.emit(Event{Kind: GroupFailed, Detail: reason})
		g.admission.group.end()
		g.apply.put(applyTask{stop: true})
		g.worker.schedule(g)
	})
}

// acknowledge gives storage responses back to the core, and sees to it that it takes them soon.
func (g *Group) acknowledge(acks []*pb.Message, appended int) {
	g.post(func(in *contents) {
		in.acks = append(in.acks, acks...)
		in.appended += appended
	})
}

// becomeReady notes that the node's own first read was served.
func (g *Group) becomeReady() {
	if !g.caughtUp.Swap(true) {
		g.log.Info("caught up", "applied", g.apply.applied.Load())
		if g.id == apply.FirstGroup {
			g.node.keeper.kick()
		}
	}
}

// Status returns what the group looks like on this node now.
func (g *Group) Status() Status {
	s := Status{
		Group:         g.id,
		ID:            g.node.options.ID,
		Role:          g.roleHere(),
		Leader:        g.lead.Load(),
		Term:          g.term.Load(),
		Commit:        g.commit.Load(),
		Applied:       g.apply.applied.Load(),
		SnapshotIndex: g.snapshots.index(),
		SnapshotBytes: g.snapshots.bytes(),
		Inflight:      g.admission.group.commands(),
		Resting:       g.resting.Load(),
	}
	s.FirstIndex, s.LastIndex = g.wal.FirstIndex(), g.wal.LastIndex()
	if err := g.absence(); err != nil {
		s.Absent = err.Error()
	}
	if reason := g.failed.Load(); reason != nil {
		s.Role, s.Failed = "failed", *reason
	}
	return s
}

// Ready returns nil when the group serves on this node, else what it waits for.
func (g *Group) Ready() error {
	if reason := g.failed.Load(); reason != nil {
		return fmt.Errorf("%w: %s", ErrGroupFailed, *reason)
	}
	if err := g.absence(); err != nil {
		return err
	}
	if !g.begun.Load() {
		return fmt.Errorf("group %d: %w", g.id, g.waitsFor())
	}
	if g.fenced.Load() {
		return fmt.Errorf("group %d: the log has lost its end and is being fetched again", g.id)
	}
	if since := g.node.disk.since(); since != 0 {
		return fmt.Errorf("group %d: a sync of the log has been under way for %v", g.id, since)
	}
	if g.lead.Load() == raft.None {
		return fmt.Errorf("group %d: %w", g.id, ErrNoLeader)
	}
	if !g.caughtUp.Load() {
		return fmt.Errorf("group %d: catching up: applied %d of at least %d", g.id,
			g.apply.applied.Load(), g.commit.Load())
	}
	return nil
}

// waitsFor says what a group that has not begun waits for.
func (g *Group) waitsFor() error {
	whom := ""
	if m := g.mender.Load(); m != nil {
		whom = m.waitsFor()
	}
	if damage := g.wal.Damage(); damage != nil {
		return fmt.Errorf("the log is damaged, asking the other members%s: %w", whom, damage)
	}
	return fmt.Errorf("the data directory is new, asking the other members how far they are%s", whom)
}

func roleName(s raft.StateType) string {
	switch s {
	case raft.StateLeader:
		return "leader"
	case raft.StateCandidate, raft.StatePreCandidate:
		return "candidate"
	}
	return "follower"
}
