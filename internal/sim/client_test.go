package sim_test

import (
	"time"

	"github.com/connectraft/connect/node"
)

// op is one operation of a client.
type op struct {
	id, group, host uint64
	key             byte
	read, stale     bool
	payload         []byte
	began, endedAt  int64
	floor           uint64 // what had been acknowledged when it began
	ended           bool
	outcome         node.Outcome
	result          node.Result
	err             error
	call            *call
	process         *process

	// Of the committed log: where a command stands and what it answers; 0 = not there.
	index     uint64
	reference []byte
}

// client sends one operation after another, to a node that it stays with while that answers.
type client struct {
	w       *world
	id      int
	host    uint64
	stopped bool
}

func (c *client) next() {
	if c.stopped {
		return
	}
	r, conf := c.w.rng.client, &c.w.plan.config
	if c.host == 0 || r.IntN(20) == 0 {
		c.host = c.w.hosts[r.IntN(len(c.w.hosts))].id
	}
	read := r.IntN(100) < conf.readPercent
	c.w.oracle.begin(c.host, uint64(1+r.IntN(conf.groups)), read, read && r.IntN(8) == 0,
		conf.deadlineMin+time.Duration(r.Int64N(int64(conf.deadlineSpread))), c.ended)
}

func (c *client) ended(o *op) {
	if o.err != nil {
		c.host = 0
	}
	pause := c.w.rng.client.Int64N(int64(2*c.w.plan.config.think) + 1)
	if o.err != nil {
		pause += int64(100 * time.Millisecond)
	}
	c.w.after(time.Duration(pause), c.next)
}

// begin starts an operation on a host; then is called at its end.
func (o *oracle) begin(host, group uint64, read, stale bool, deadline time.Duration,
	then func(*op)) *op {
	r, conf := o.w.rng.client, &o.w.plan.config
	one := &op{id: uint64(len(o.ops) + 1), group: group, host: host, read: read, stale: stale,
		key: byte(r.IntN(conf.keys)), began: o.w.now, floor: o.group(group).floor}
	o.ops = append(o.ops, one)
	o.open = append(o.open, one)
	if read {
		one.payload = []byte{one.key}
	} else {
		value := make([]byte, r.IntN(conf.valueBytes+1))
		for i := range value {
			value[i] = byte('a' + r.IntN(26))
		}
		one.payload = encodeCommand(one.id, byte(r.IntN(kindCount)), one.key, value)
	}
	o.w.trace.note("call", host, group, one.id, uint64(one.key), boolWord(read))
	p := o.w.host(host).proc
	if p == nil {
		o.w.after(time.Millisecond, func() { o.end(one, node.Result{}, node.ErrClosed, then) })
		return one
	}
	one.process = p
	one.call = &call{payload: one.payload, stale: stale, retry: r.IntN(2) == 0,
		done: func(result node.Result, err error) { o.end(one, result, err, then) }}
	one.call.g = p.group(group)
	p.after(o.w.between(0, 200*time.Microsecond), func() {
		if !one.ended {
			one.call.g.submit(one.call, read)
		}
	})
	o.w.after(deadline, func() { o.expire(one, then) })
	return one
}

// expire ends an operation whose deadline has come. A node that does not answer at all leaves its
// client without knowing anything.
func (o *oracle) expire(one *op, then func(*op)) {
	if one.ended {
		return
	}
	if o.w.host(one.host).pausedUntil > o.w.now {
		o.end(one, node.Result{}, unknown("no answer"), then)
		return
	}
	err := one.call.expire()
	if o.w.is(unknownAsNotApplied) {
		err = node.ErrNoLeader
	}
	o.end(one, node.Result{}, err, then)
}

// end is the end of an operation for its client; what comes later reaches nobody.
func (o *oracle) end(one *op, result node.Result, err error, then func(*op)) {
	if one.ended {
		return
	}
	one.ended, one.endedAt, one.result, one.err = true, o.w.now, result, err
	one.outcome = node.OutcomeOf(err)
	for i := range o.open {
		if o.open[i] == one {
			o.open = append(o.open[:i], o.open[i+1:]...)
			break
		}
	}
	o.w.trace.note("answer", one.host, one.group, one.id, uint64(one.outcome), result.Index)
	if err != nil {
		o.w.trace.say("op %d: %v", one.id, err)
	}
	o.w.stats.outcomes[one.outcome]++
	o.checkAnswer(one)
	one.call, one.process = nil, nil
	then(one)
}

// processDied ends what clients had asked of a process.
func (o *oracle) processDied(p *process) {
	for _, one := range append([]*op(nil), o.open...) {
		if one.process == p {
			one.call.done(node.Result{}, unknown("the node died"))
		}
	}
}
