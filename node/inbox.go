package node

import (
	"slices"
	"sync"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// inbox is what a group's next turn begins with.
//
// What the core would only let wait calls for no turn: commands that come while an append is out and
// reads while a round of ReadIndex is, and acknowledgements that only move what the core remembers.
// They lie here until something comes that has a turn of its own, or the next tick. So the loop
// wakes up once for what came meanwhile, and not once for each.
type inbox struct {
	sync.Mutex
	contents
	ended  bool // the node is closed: nothing is taken any more
	defers deferral
	// spare gives its memory to the messages and acknowledgements of the next turn.
	spare contents
	// How many commands and reads the last turn took: the next ones are about as many.
	callsBefore, readsBefore int
}

type contents struct {
	calls    []replica.Proposal
	reads    []replica.Read
	messages []received
	acks     []*pb.Message      // storage responses to the core itself
	appended int                // appends of new entries that became durable
	retries  []replica.Proposal // go to the core again at the next tick
	events   []func(*replica.Replica)
	start    *replica.Replica // the core of a group that begins
	whispers []whisper
	ending   func() // see Group.ending
}

type received struct {
	from uint64
	m    *pb.Message
}

// deferral says what calls for no turn by itself.
type deferral struct {
	calls    bool
	reads    bool // those that a round of their own must confirm
	appended bool // acknowledgements of appends
	applied  bool // acknowledgements of applied entries
}

// spareMessagesMax is the most messages whose memory an inbox keeps: most groups are idle.
const spareMessagesMax = 32

// post puts something into the inbox and schedules a turn. It reports false when the group takes
// nothing any more.
func (g *Group) post(put func(*contents)) bool {
	return g.postUnless(func(deferral) bool { return false }, put)
}

// postUnless is post for something that calls for no turn while it is deferred.
func (g *Group) postUnless(deferred func(deferral) bool, put func(*contents)) bool {
	in := &g.inbox
	in.Lock()
	taken, due := !in.ended, !deferred(in.defers)
	if taken {
		put(&in.contents)
	}
	in.Unlock()
	if due {
		g.worker.schedule(g)
	}
	return taken
}

// postCall puts a command into the inbox.
func (g *Group) postCall(c *Call) bool {
	return g.postUnless(func(d deferral) bool { return d.calls }, func(in *contents) {
		if in.calls == nil {
			in.calls = make([]replica.Proposal, 0, g.inbox.callsBefore+1)
		}
		in.calls = append(in.calls, c)
	})
}

// postRead puts a read into the inbox.
func (g *Group) postRead(c *Call) bool {
	round := c.level.freshness == replica.Freshness{}
	return g.postUnless(func(d deferral) bool { return d.reads && round }, func(in *contents) {
		if in.reads == nil {
			in.reads = make([]replica.Read, 0, g.inbox.readsBefore+1)
		}
		in.reads = append(in.reads, c)
	})
}

// postAppended puts the acknowledgement of an append into the inbox.
func (g *Group) postAppended(acks []*pb.Message, appended int) bool {
	return g.postUnless(func(d deferral) bool { return d.appended }, func(in *contents) {
		in.acks = append(in.acks, acks...)
		in.appended += appended
	})
}

// postApplied puts the acknowledgement of applied entries into the inbox.
func (g *Group) postApplied(acks []*pb.Message) bool {
	return g.postUnless(func(d deferral) bool { return d.applied }, func(in *contents) {
		in.acks = append(in.acks, acks...)
	})
}

// postMessages puts messages of a peer into the inbox.
func (g *Group) postMessages(from uint64, messages []*pb.Message) bool {
	settled := g.settled.Load()
	late := !slices.ContainsFunc(messages, func(m *pb.Message) bool { return !isLate(m, settled) })
	return g.postUnless(func(deferral) bool { return late }, func(in *contents) {
		for _, m := range messages {
			if m.GetType() != pb.MsgSnap { // comes with its body, through HandleSnapshot
				in.messages = append(in.messages, received{from, m})
			}
		}
	})
}

// isLate reports whether a message is the answer of a follower that comes behind those of a
// majority, and tells what all of them did: that it has everything up to the last commit.
func isLate(m *pb.Message, settled uint64) bool {
	return m.GetType() == pb.MsgAppResp && !m.GetReject() && settled != 0 &&
		m.GetIndex() == settled
}

// empty takes everything out of the inbox; with end nothing comes in any more.
func (g *Group) empty(end bool) contents {
	g.inbox.Lock()
	defer g.inbox.Unlock()
	in := g.inbox.contents
	g.inbox.contents, g.inbox.ended = g.inbox.spare, end
	g.inbox.spare = contents{}
	g.inbox.callsBefore, g.inbox.readsBefore = len(in.calls), len(in.reads)
	return in
}

// reuse gives memory of a turn that has ended back to the inbox.
func (g *Group) reuse(in contents) {
	if cap(in.messages) > spareMessagesMax || cap(in.acks) > spareMessagesMax {
		return
	}
	clear(in.messages)
	clear(in.acks)
	g.inbox.Lock()
	defer g.inbox.Unlock()
	g.inbox.spare = contents{messages: in.messages[:0], acks: in.acks[:0]}
}

// setDeferral says what calls for no turn from now on. What came before it was lifted may have
// called for none, and needs one now.
func (g *Group) setDeferral(d deferral) {
	if g.defers == d {
		return
	}
	g.defers = d
	g.inbox.Lock()
	g.inbox.defers = d
	due := !d.calls && len(g.inbox.calls) > 0 || !d.reads && len(g.inbox.reads) > 0 ||
		!(d.appended && d.applied) && len(g.inbox.acks) > 0
	g.inbox.Unlock()
	if due {
		g.worker.schedule(g)
	}
}
