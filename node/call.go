package node

import (
	"context"
	"sync/atomic"

	"github.com/connectraft/connect/internal/replica"
)

// Result is the answer to a command or a read.
type Result struct {
	// Index is the log index of the entry that carried the command; of a read, the index up to
	// which the answer reflects the log.
	Index  uint64
	Answer []byte // of the state machine; belongs to the caller
}

// The life of a call: queued -> taken (given to the log, or to the leader) -> queued again when it
// is to be tried again, and abandoned from either when its waiter leaves. The winner of the change
// from queued decides the outcome; a taken call that is abandoned goes its way, but is not tried
// again.
const (
	callQueued uint32 = iota
	callTaken
	callAbandoned
)

// Call is one command or read on its way. [Call.Wait] must be called exactly once.
type Call struct {
	state   atomic.Uint32
	retry   bool   // to be tried again when the leader changes and it is surely not applied
	system  bool   // the command is one of the system
	payload []byte // the command or the query
	level   ReadLevel
	place   *place // of a command in its session; nil without one

	result Result
	err    error
	done   chan struct{} // holds one token when the call is finished
	group  *Group        // whose admission the call holds
	// relay is set on a call that came from another node: its end is a part of that node's reply,
	// nobody waits for it here, and it is never forwarded again.
	relay *relay
}

func newCall(g *Group, payload []byte) *Call {
	done, _ := g.node.signals.Get().(chan struct{})
	if done == nil {
		done = make(chan struct{}, 1)
	}
	c, _ := g.node.calls.Get().(*Call)
	if c == nil {
		c = new(Call)
	}
	c.group, c.payload, c.done = g, payload, done
	return c
}

// recycle lets the memory of a call that never left the node serve another one, if it has ended: who
// ends a call holds it no more. One whose waiter has left is still on its way.
func (c *Call) recycle() {
	if c.done == nil {
		calls := &c.group.node.calls
		*c = Call{}
		calls.Put(c)
	}
}

// newSystemCall makes a call of a command that is not for the state machine. Such commands may be
// tried again after any outcome.
func newSystemCall(g *Group, command []byte) *Call {
	c := newCall(g, command)
	c.system, c.retry = true, true
	return c
}

// Command returns the command; it is part of the core's view of a proposal.
func (c *Call) Command() replica.Command {
	if p := c.place; p != nil {
		return replica.Command{Session: p.session, Sequence: p.sequence, Acked: p.acked,
			Data: c.payload}
	}
	return replica.Command{System: c.system, Data: c.payload}
}

// Take claims the call for the log; false means that its waiter has left and it must not be
// proposed any more.
func (c *Call) Take() bool { return c.state.CompareAndSwap(callQueued, callTaken) }

// Local reports whether the call may only be proposed by this node itself.
func (c *Call) Local() bool { return c.relay != nil }

// Release puts a call back that was taken but surely not proposed, so that it can be tried again.
// It stays abandoned when its waiter has left.
func (c *Call) Release() { c.state.CompareAndSwap(callTaken, callQueued) }

// Withdrawn reports whether the call's waiter has left.
func (c *Call) Withdrawn() bool { return c.state.Load() == callAbandoned }

// finish ends an admitted call; it is called exactly once. A command of a session may be tried
// again instead, and finishes later.
func (c *Call) finish(r Result, err error) {
	if err != nil && c.place != nil {
		if c.repeat(err) {
			return
		}
		err = c.place.verdict(err)
	}
	c.group.admission.leave(len(c.payload))
	c.end(r, err)
}

// refuse ends a call that was not admitted.
func (c *Call) refuse(err error) { c.end(Result{}, err) }

func (c *Call) end(r Result, err error) {
	c.result, c.err = r, err
	if c.place != nil && c.place.owner != nil {
		c.place.owner.finished(c.place.sequence)
	}
	if c.relay != nil {
		c.relay.finished()
		return
	}
	c.done <- struct{}{}
}

// Wait returns the outcome of the call. When ctx ends first the error tells which: a call that was
// not given to the log yet is withdrawn (NotApplied), any other is Unknown.
func (c *Call) Wait(ctx context.Context) (Result, error) {
	left := ctx.Done()
	if left == nil {
		<-c.done
		return c.ended()
	}
	select {
	case <-c.done:
		return c.ended()
	default:
	}
	select {
	case <-c.done:
		return c.ended()
	case <-left:
	}
	for {
		if c.state.CompareAndSwap(callQueued, callAbandoned) {
			c.group.apply.sweepSoon()
			return Result{}, c.place.verdict(c.group.waitError(ctx, c))
		}
		if c.state.CompareAndSwap(callTaken, callAbandoned) {
			return Result{}, unknown(context.Cause(ctx).Error())
		}
	}
}

// ended returns the outcome of a call that has ended, whose channel nobody uses any more.
func (c *Call) ended() (Result, error) {
	c.group.node.signals.Put(c.done)
	c.done = nil
	return c.result, c.err
}
