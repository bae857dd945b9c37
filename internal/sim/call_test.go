package sim_test

import (
	"fmt"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/node"
)

// call is the twin of node/call.go.
type call struct {
	g       *group
	state   int // queued, taken or abandoned
	payload []byte
	stale   bool // a read that asks nobody
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

func (c *call) Command() replica.Command { return replica.Command{Data: c.payload} }
func (c *call) Take() bool {
	if c.state != callQueued {
		return false
	}
	c.state = callTaken
	return true
}
func (c *call) Release()        { c.state = callQueued }
func (c *call) Withdrawn() bool { return c.state == callAbandoned }
func (c *call) Local() bool     { return c.relay != nil }

// Freshness is that of linearizable reads; those that ask nobody never get to a core.
func (c *call) Freshness() replica.Freshness { return replica.Freshness{} }

// finish ends an admitted call.
func (c *call) finish(r node.Result, err error) {
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
	if c.state == callQueued {
		c.state = callAbandoned
		return fmt.Errorf("%w before the deadline", node.ErrNoLeader)
	}
	return unknown("deadline")
}
