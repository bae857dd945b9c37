package sim_test

import (
	"errors"
	"fmt"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/node"
)

// call is the twin of node/call.go.
type call struct {
	g       *group
	state   int // queued, taken or abandoned
	payload []byte
	system  bool
	place   *inSession // of a command in its session; nil without one
	stale   bool       // a read that asks nobody
	fresh   replica.Freshness
	atLeast uint64 // index that a stale read waits for
	relay   *relay
	retry   bool // tried again when a change of leader has surely lost it (Propose, not Go)
	result  node.Result
	err     error
	ended   bool
	done    func(node.Result, error) // the client's, nil for a relayed call
}

const (
	callQueued = iota
	callTaken
	callAbandoned
)

var (
	_ replica.Proposal = (*call)(nil)
	_ replica.Read     = (*call)(nil)
)

// inSession is the twin of place in node/session.go, without an owner: sequences are counted by clients.
type inSession struct {
	session, sequence, acked uint64
	uncertain                bool
}

func (c *call) Command() replica.Command {
	if p := c.place; p != nil && !c.g.w.is(ignoreSessions) {
		return replica.Command{Session: p.session, Sequence: p.sequence, Acked: p.acked,
			Data: c.payload}
	}
	return replica.Command{System: c.system, Data: c.payload}
}
func (c *call) Take() bool {
	if c.state != callQueued {
		return false
	}
	c.state = callTaken
	return true
}
func (c *call) Release() {
	if c.state == callTaken {
		c.state = callQueued
	}
}
func (c *call) Withdrawn() bool { return c.state == callAbandoned }
func (c *call) Local() bool     { return c.relay != nil }

func (c *call) Freshness() replica.Freshness { return c.fresh }

// finish ends an admitted call, or has it sent again when it is of a session.
func (c *call) finish(r node.Result, err error) {
	if err != nil && c.place != nil {
		if c.repeat(err) {
			return
		}
		err = c.place.verdict(err)
	}
	c.g.inflight--
	c.end(r, err)
}

func (c *call) end(r node.Result, err error) {
	if c.ended {
		c.g.w.violated("outcome", "a call of group %d on node %d ended twice: %v, then %v", c.g.id,
			c.g.p.h.id, c.err, err)
	}
	c.ended, c.result, c.err = true, r, err
	if c.relay != nil {
		c.relay.finished()
		return
	}
	c.done(r, err)
}

// expire is the end of the waiter's context (Call.Wait).
func (c *call) expire() error {
	was := c.state
	c.state = callAbandoned
	if was == callQueued {
		c.g.apply.sweepSoon()
		return c.place.verdict(fmt.Errorf("%w before the deadline", node.ErrNoLeader))
	}
	return unknown("deadline")
}

// repeat is Call.repeat.
func (c *call) repeat(err error) bool {
	if c.relay != nil || c.g.failed != nil {
		return false
	}
	switch advice := node.AdviceOf(err); {
	case errors.Is(err, node.ErrUnknown):
		c.place.uncertain = true
	case errors.Is(err, node.ErrSessionFull):
		return false // who counts the sequences has to acknowledge answers first
	case c.place.uncertain && advice.RetrySafe && advice.Ask != node.AskNobody:
	default:
		return false
	}
	if c.state != callTaken {
		return false
	}
	c.state = callQueued
	c.g.retry([]replica.Proposal{c})
	return true
}

// verdict is place.verdict.
func (p *inSession) verdict(err error) error {
	if p == nil || !p.uncertain || errors.Is(err, node.ErrUnknown) {
		return err
	}
	return fmt.Errorf("%w: an earlier submission may have been applied: %w", node.ErrUnknown, err)
}
