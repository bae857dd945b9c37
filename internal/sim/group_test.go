package sim_test

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/wal"
)

// group is the twin of node/group.go, with the life of a group from node/node.go.
type group struct {
	p   *process
	w   *world
	id  uint64
	wal *wal.Group

	core      *replica.Replica
	in        contents
	memory    contents // of in as of the last turn, empty
	scheduled bool
	retries   []replica.Proposal
	waits     bool
	holds     bool // its core holds commit indexes back
	apply     *applier
	snaps     *snapshots
	hardState wal.State
	restoring int
	inflight  int
	mender    *mender
	begun     bool
	fenced    bool
	newcomer  bool // the log is empty, and whether it was lost is not known yet
	probing   bool
	caughtUp  bool
	failed    error

	role         raft.StateType
	lead         uint64
	term, commit uint64 // as of the last look of the invariants
	// handed is the log as the core has handed it out.
	handed    *logView
	lastRound uint64   // for a mutant
	mayVote   []uint64 // by peer: the highest term in which it was asked for a vote that was free

	// The rest (node/quiet.go, node/inbox.go).
	resting    bool
	idle       int
	restsSince int64
	defers     deferral
	settled    uint64

	// The members (node/membership.go).
	conf          *pb.ConfState // of what was handed out to be applied, or installed
	out, gone     bool
	lone          int    // rounds without a leader
	transfer      uint64 // to whom one is under way that the operator asked for, 0 = none
	transferTicks int
	transferTerm  uint64 // in which it began

	unsettled      uint64               // memberState.unsettled
	handedIndex    uint64               // up to where entries were handed out to be applied
	checkedMembers uint64               // handedIndex as of the last look at the members
	memberships    []replica.Membership // handed out and not looked at
	inForce        []*pb.ConfState      // configurations since the last look
}

type contents struct {
	calls    []replica.Proposal
	reads    []replica.Read
	messages []received
	acks     []*pb.Message
	appended int
	retries  []replica.Proposal
	events   []func(*replica.Replica)
	start    *replica.Replica
	whispers []whisper
}

type received struct {
	from uint64
	m    *pb.Message
}

func newGroup(p *process, id uint64) *group {
	g := &group{p: p, w: p.w, id: id, wal: p.wal.Group(id), handed: &logView{},
		mayVote: make([]uint64, len(p.w.hosts)+1)}
	g.snaps = &snapshots{g: g, newest: nil}
	g.apply = newApplier(g)
	return g
}

// post is Group.post.
func (g *group) post(put func(*contents)) {
	put(&g.in)
	g.p.schedule(g)
}

// turn is Group.turn.
func (g *group) turn() {
	g.scheduled = false
	in := g.in
	g.in, g.memory = g.memory, contents{}
	if in.start != nil {
		g.core = in.start
	}
	if g.failed != nil {
		g.setDeferral(deferral{})
		g.refuse(in)
		return
	}
	if g.core == nil {
		return
	}
	defer g.recoverPanic("event loop")
	g.listen(&in)
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
		g.notePromise(r.m)
		g.drop(g.core.Step(r.from, r.m))
	}
	for _, event := range in.events {
		event(g.core)
	}
	g.collect()
	g.agree(in.whispers)
	g.memory = in.reset()
}

// reset returns empty contents in the memory of these. What the core may keep is not used again.
func (in *contents) reset() contents {
	return contents{messages: in.messages[:0], acks: in.acks[:0], events: in.events[:0],
		retries: in.retries[:0], whispers: in.whispers[:0]}
}

// drop is Group.drop.
func (g *group) drop(err error) {
	if err == nil {
		return
	}
	g.w.trace.say("n%d g%d refused: %v", g.p.h.id, g.id, err)
	if fault := g.core.Status().Fault; fault != nil {
		g.fail(fault)
	}
}

// tick is Group.tick.
func (g *group) tick(diskHung bool) {
	if g.defers != (deferral{}) || g.settled != 0 {
		g.turn()
	}
	if g.core == nil || g.failed != nil {
		return
	}
	defer g.recoverPanic("event loop")
	leads := g.leads()
	if diskHung && leads {
		if to := g.core.HandOver(); to != 0 {
			g.note("hand over", to)
		}
	}
	switch {
	case g.outside():
		g.core.TickOutside()
		g.tickTransfer()
		g.endHeld()
	case !diskHung || leads:
		g.core.Tick()
		g.tickTransfer()
	}
	g.snaps.unpin(g.core)
	if calls := g.retries; len(calls) > 0 {
		g.retries = nil
		g.core.Propose(calls)
	}
	withdrawn, reads := g.core.Sweep()
	g.finishAll(withdrawn, node.ErrNoLeader)
	for _, r := range reads {
		g.finishRead(r, node.ErrNoLeader)
	}
	g.collect()
	g.tryRest()
}

// endHeld is Group.endHeld.
func (g *group) endHeld() {
	queued, placed := g.core.Pending()
	g.finishAll(queued, node.ErrRemoved)
	g.finishAll(placed, unknown(node.ErrRemoved.Error()))
	for _, r := range g.core.PendingReads() {
		g.finishRead(r, node.ErrRemoved)
	}
	for _, e := range g.core.PendingChanges() {
		e.Change.(*change).end(cmp.Or(e.Err, node.ErrRemoved), e.Unknown)
	}
	g.apply.sweepSoon()
}

// collect is Group.collect.
func (g *group) collect() {
	for g.core.HasReady() && g.failed == nil {
		if !g.p.room() {
			if !g.waits {
				g.waits = true
				g.p.waiting = append(g.p.waiting, g)
			}
			break
		}
		g.carry(g.core.Ready(g.p.h.local(), g.p.h.mono()))
	}
	if g.core.Holding() && !g.holds {
		g.holds = true
		g.p.after(commitDelay, func() {
			g.flush()
			g.check()
		})
	}
	g.settled = g.core.Settled()
	g.setDeferral(deferral{calls: g.core.Saturated(), reads: g.core.Confirming(),
		appended: !g.core.AwaitsAppended(), applied: !g.core.AwaitsApplied()})
}

// commitDelay is that of node/holding.go.
const commitDelay = 5 * time.Millisecond

// flush is Group.flush.
func (g *group) flush() {
	g.holds = false
	if g.failed != nil {
		return
	}
	defer g.recoverPanic("event loop")
	g.core.Flush()
	g.collect()
}

// resume is Group.resume.
func (g *group) resume() {
	g.waits = false
	defer g.recoverPanic("event loop")
	g.collect()
}

func (g *group) leads() bool { return g.failed == nil && g.role == raft.StateLeader }

// carry is Group.carry.
func (g *group) carry(rd replica.Ready) {
	g.writeNext(&rd)
	g.observe(rd.Changed)
	if rd.Append != nil {
		g.noteChanges(rd.Append)
	}
	g.checkPromise(rd.Messages)
	g.checkLed(rd.Messages)
	g.send(rd.Messages)
	if rd.Unfenced {
		g.note("unfenced")
		g.fenced = false
	}
	if rd.Append != nil {
		g.handedOut(rd.Append)
		g.checkPromise(rd.Append.Responses)
	}
	if rd.Append != nil || rd.Unfenced {
		g.p.unread++
		g.p.appender.put(ready{g: g, append: rd.Append, unfence: rd.Unfenced})
	}
	g.carryMembers(&rd)
	if rd.Apply != nil || len(rd.Reads) > 0 {
		g.mutateReads(rd.Reads)
		g.apply.put(applyTask{apply: rd.Apply, reads: rd.Reads})
	}
	for _, lost := range rd.Lost {
		g.finishLost(lost)
	}
	if len(rd.Forward) > 0 {
		g.p.relays.forward(g, g.core.Status().Leader, rd.Forward)
	}
}

// observe is Group.observe.
func (g *group) observe(changed bool) {
	if !changed {
		return
	}
	s := g.core.Status()
	if g.role != s.Role || g.lead != s.Leader {
		g.note("role", uint64(s.Role), s.Leader, s.Term)
	}
	g.role, g.lead = s.Role, s.Leader
	if s.Leader != raft.None {
		g.gone = false // somebody counts this node as a member
	}
	if s.Leader != raft.None && !g.probing {
		g.probing = true
		g.core.Read([]replica.Read{probe{g}})
	}
}

type probe struct{ g *group }

func (p probe) Withdrawn() bool              { return false }
func (p probe) Freshness() replica.Freshness { return replica.Freshness{} }

// send is Group.send.
func (g *group) send(messages []*pb.Message) {
	g.checkAsks(messages)
	for i := 0; i < len(messages); {
		to, end := messages[i].GetTo(), i+1
		if messages[i].GetType() == pb.MsgSnap {
			g.snaps.send(to, messages[i])
			i++
			continue
		}
		for end < len(messages) && messages[end].GetTo() == to &&
			messages[end].GetType() != pb.MsgSnap {
			end++
		}
		g.w.net.sendRaft(g.p, to, g.id, messages[i:end])
		i = end
	}
}

// finishLost is Group.finishLost.
func (g *group) finishLost(lost replica.Lost) {
	for _, p := range lost.Proposals {
		c := p.(*call)
		switch {
		case lost.Unknown:
			c.finish(node.Result{}, unknown(lost.Err.Error()))
		case lost.Err == replica.ErrWithdrawn:
			c.finish(node.Result{}, node.ErrNoLeader)
		case lost.Err == replica.ErrOverwritten && c.retry:
			c.Release()
			g.retries = append(g.retries, c)
		case lost.Err == replica.ErrOverwritten || lost.Err == replica.ErrNotLeader:
			c.finish(node.Result{}, &node.NotLeaderError{Leader: g.lead})
		default:
			c.finish(node.Result{}, lost.Err)
		}
	}
}

func (g *group) finishAll(proposals []replica.Proposal, err error) {
	for _, p := range proposals {
		p.(*call).finish(node.Result{}, err)
	}
}

func (g *group) finishRead(r replica.Read, err error) {
	if c, ok := r.(*call); ok {
		c.finish(node.Result{}, err)
	}
}

// refuse is Group.refuse.
func (g *group) refuse(in contents) {
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

func (g *group) stopError() error { return fmt.Errorf("%w: %w", node.ErrGroupFailed, g.failed) }

func (g *group) recoverPanic(where string) {
	v := recover()
	if v == nil {
		return
	}
	if _, ok := v.(*violation); ok {
		panic(v)
	}
	g.w.trace.say("n%d g%d panic in the %s: %v\n%s", g.p.h.id, g.id, where, v, debug.Stack())
	g.fail(fmt.Errorf("panic in the %s: %v", where, v))
}

// fail is Group.fail. Nothing but a failed log may stop a group here.
func (g *group) fail(err error) {
	if g.failed != nil {
		return
	}
	leads := g.leads()
	g.failed = err
	if leads {
		for _, peer := range g.p.peers() {
			g.whisperStir(peer)
		}
	}
	g.note("group failed")
	g.w.trace.say("n%d g%d stopped: %v", g.p.h.id, g.id, err)
	g.checkStopped(err)
	g.apply.put(applyTask{stop: true})
	g.p.schedule(g)
}

func (g *group) acknowledge(acks []*pb.Message, appended int) {
	g.post(func(in *contents) {
		in.acks = append(in.acks, acks...)
		in.appended += appended
	})
}

// admit is Group.admit with Group.admitCommand.
func (g *group) admit(c *call, command bool) error {
	o := &g.w.plan.config
	switch {
	case command && g.leads() && (g.p.diskFull || g.p.lookedFull):
		return node.ErrDiskFull
	case g.failed != nil:
		return g.stopError()
	case g.gone || g.out:
		return node.ErrRemoved
	case g.lead == raft.None && g.begun && !g.fenced &&
		len(g.apply.directory.State.GetVoters()) == 0:
		return node.ErrNotAdded
	case !g.begun:
		return node.ErrNoLeader
	case len(c.payload) > o.commandBytes:
		return node.ErrTooLarge
	case g.inflight >= o.inflightCommands:
		return node.ErrOverloaded
	}
	g.inflight++
	return nil
}

// submit is Group.Go and Group.GoRead.
func (g *group) submit(c *call, read bool) {
	if err := g.admit(c, !read); err != nil {
		c.end(node.Result{}, err)
		return
	}
	switch {
	case !read:
		g.postCall(c)
	case c.stale || g.w.is(readWithoutRound):
		g.apply.put(applyTask{reads: []replica.ReadRound{{Index: c.atLeast,
			Reads: []replica.Read{c}}}})
	default:
		g.postRead(c)
	}
}

func (g *group) note(what string, values ...uint64) {
	g.w.trace.note(what, g.p.h.id, g.id, values...)
}

func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rng.process.Int64N(int64(most-least)+1))
}
