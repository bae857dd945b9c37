package node

import (
	"sync"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// inbox is what a group's next turn begins with.
//
// Commands and reads that the core would only let wait call for no turn: those that come while an
// append is out, or a round of ReadIndex, lie here until its end, which comes with a turn of its
// own. So the loop wakes up once for what came meanwhile, and not once for each.
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
	calls bool
	reads bool // those that a round of their own must confirm
}

// spareMessagesMax is the most messages whose memory an inbox keeps: most groups are idle.
const spareMessagesMax = 32

// post puts something into the inbox and schedules a turn. It reports false when the group takes
// nothing any more.
func (g *Group) post(put func(*contents)) bool {
	g.inbox.Lock()
	ended := g.inbox.ended
	if !ended {
		put(&g.inbox.contents)
	}
	g.inbox.Unlock()
	g.worker.schedule(g)
	return !ended
}

// postCall puts a command into the inbox. It reports false when the group takes nothing any more.
func (g *Group) postCall(c *Call) bool {
	in := &g.inbox
	in.Lock()
	taken, due := !in.ended, !in.defers.calls
	if taken {
		if in.calls == nil {
			in.calls = make([]replica.Proposal, 0, in.callsBefore+1)
		}
		in.calls = append(in.calls, c)
	}
	in.Unlock()
	if due {
		g.worker.schedule(g)
	}
	return taken
}

// postRead puts a read into the inbox. It reports false when the group takes nothing any more.
func (g *Group) postRead(c *Call) bool {
	in := &g.inbox
	in.Lock()
	taken, due := !in.ended, !in.defers.reads || c.level.freshness != replica.Freshness{}
	if taken {
		if in.reads == nil {
			in.reads = make([]replica.Read, 0, in.readsBefore+1)
		}
		in.reads = append(in.reads, c)
	}
	in.Unlock()
	if due {
		g.worker.schedule(g)
	}
	return taken
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
	due := !d.calls && len(g.inbox.calls) > 0 || !d.reads && len(g.inbox.reads) > 0
	g.inbox.Unlock()
	if due {
		g.worker.schedule(g)
	}
}
