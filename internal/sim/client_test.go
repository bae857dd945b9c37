package sim_test

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/node"
)

// op is one operation of a client.
type op struct {
	id, group, host uint64
	key             byte
	read, stale     bool
	fresh           replica.Freshness // of a read that is not stale
	watching        bool              // a watcher's
	payload         []byte
	system          bool // opens a session
	session         *session
	place           inSession
	tries, awaits   int // how often the command was sent, and which of these is waited for
	began, endedAt  int64
	floor           uint64 // what had been acknowledged when it began
	atLeast         uint64 // index that a stale read must reflect
	ended           bool
	outcome         node.Outcome
	result          node.Result
	err             error
	deadline        time.Duration // of each try
	call            *call
	process         *process

	// Of the committed log: where a command stands and what it answers; 0 = not there.
	index     uint64
	reference []byte
}

// client sends one operation after another, to a node that it stays with while that answers.
type client struct {
	w        *world
	id       int
	host     uint64
	sessions []*session // of each group; nil when the client uses none
	stopped  bool
}

// readAge is how old the answer to a read with an age may be.
const readAge = 700 * time.Millisecond

// session is what a client knows of its session of a group.
type session struct {
	id    uint64 // 0 = to be opened
	acked uint64
}

func (c *client) next() {
	if c.stopped {
		return
	}
	lull := c.w.pause()
	if lull > 0 && !c.w.healed && !c.w.readsGoOn {
		c.w.after(lull, c.next)
		return
	}
	r, conf := c.w.rng.client, &c.w.plan.config
	if c.host == 0 || r.IntN(20) == 0 {
		c.host = c.w.someHost(r)
	}
	read := r.IntN(100) < conf.readPercent || lull > 0
	group := uint64(1 + r.IntN(conf.groups))
	one := c.w.oracle.newOp(c.host, group, read, read && r.IntN(8) == 0)
	if c.sessions != nil && !read {
		one.join(c.sessions[group-1], r.Uint64N(3))
	}
	one.deadline = conf.deadlineMin + time.Duration(r.Int64N(int64(conf.deadlineSpread)))
	c.w.oracle.send(one, c.ended)
}

// someHost draws a host, as a rule one that is a member of some group.
func (w *world) someHost(r *rand.Rand) uint64 {
	if w.plan.config.spares > 0 && r.IntN(10) > 0 {
		members := allIDs(w.oracle.groups[r.IntN(len(w.oracle.groups))].now().state)
		return members[r.IntN(len(members))]
	}
	return w.hosts[r.IntN(len(w.hosts))].id
}

// join makes an operation one of a session, or has it open one. What is acknowledged may lag behind.
func (one *op) join(s *session, lag uint64) {
	one.session = s
	if s.id == 0 {
		one.system, one.payload = true, apply.OpenSession()
		return
	}
	one.place = inSession{session: s.id, sequence: s.acked + 1, acked: s.acked - min(lag, s.acked)}
}

func (c *client) ended(o *op) {
	if o.err != nil {
		c.host = 0
	}
	pause := c.w.rng.client.Int64N(int64(2*c.w.plan.config.think) + 1)
	if o.err != nil || c.w.healed {
		// Once healed, so that there is room for those whose answers are awaited: calls that find none
		// are refused here, where Propose and Read of node wait in the order of their arrival.
		pause += int64(100 * time.Millisecond)
	}
	c.w.after(time.Duration(pause), c.next)
}

// begin starts an operation on a host; then is called at its end.
func (o *oracle) begin(host, group uint64, read, stale bool, deadline time.Duration,
	then func(*op)) {
	one := o.newOp(host, group, read, stale)
	one.deadline = deadline
	o.send(one, then)
}

// watcher reads under the lease on its own host, more often than clients do: what a lease lets
// through shows only for as long as two nodes take themselves for the leader.
type watcher struct {
	w    *world
	host uint64
	n    int
}

func (r *watcher) next() {
	if r.w.healed {
		return
	}
	r.n++
	conf := &r.w.plan.config
	one := r.w.oracle.newOp(r.host, uint64(1+r.n%conf.groups), true, false)
	one.fresh, one.watching = replica.Freshness{Leased: true}, true
	one.deadline = 2 * conf.tick
	r.w.oracle.send(one, func(*op) {})
	r.w.after(conf.tick/2, r.next)
}

func (o *oracle) newOp(host, group uint64, read, stale bool) *op {
	r, conf := o.w.rng.client, &o.w.plan.config
	one := &op{id: uint64(len(o.ops) + 1), group: group, host: host, read: read, stale: stale,
		key: byte(r.IntN(conf.keys)), began: o.w.now, floor: o.group(group).floor}
	o.ops = append(o.ops, one)
	o.open = append(o.open, one)
	if read {
		one.payload = []byte{one.key}
		if stale && one.id%2 == 0 {
			one.atLeast = one.floor
		}
		if conf.leases {
			// Not drawn, so that a seed has the same plan with leases and without.
			one.fresh = []replica.Freshness{{}, {Leased: true}, {Leased: true},
				{MaxAge: readAge}}[one.id%4]
		}
	} else {
		value := make([]byte, r.IntN(conf.valueBytes+1))
		for i := range value {
			value[i] = byte('a' + r.IntN(26))
		}
		one.payload = encodeCommand(one.id, byte(r.IntN(kindCount)), one.key, value)
	}
	return one
}

// send gives an operation to its host.
func (o *oracle) send(one *op, then func(*op)) {
	o.w.trace.note("call", one.host, one.group, one.id, uint64(one.key), boolWord(one.read))
	one.tries++
	try := one.tries
	one.awaits = try
	done := func(result node.Result, err error) {
		if one.isAt(try) {
			o.end(one, result, err, then)
		}
	}
	p := o.w.host(one.host).proc
	if p == nil {
		o.w.after(time.Millisecond, func() { done(node.Result{}, node.ErrClosed) })
		return
	}
	one.process = p
	c := &call{g: p.group(one.group), payload: one.payload, system: one.system, stale: one.stale,
		fresh: one.fresh, atLeast: one.atLeast,
		retry: o.w.rng.client.IntN(2) == 0, done: done}
	if one.place.session != 0 {
		c.place, c.retry = new(one.place), true
	}
	one.call = c
	p.after(o.w.between(0, 200*time.Microsecond), func() {
		if one.isAt(try) {
			c.g.submit(c, one.read)
		}
	})
	o.w.after(one.deadline, func() {
		if one.isAt(try) {
			o.expire(one, then)
		}
	})
}

// isAt reports whether a try is waited for.
func (one *op) isAt(try int) bool { return !one.ended && one.awaits == try }

// expire ends a try of an operation whose deadline has come. A node that does not answer at all
// leaves its client without knowing anything.
func (o *oracle) expire(one *op, then func(*op)) {
	if o.w.host(one.host).pausedUntil > o.w.now {
		call := one.call
		one.process.after(0, func() { _ = call.expire() })
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
	if err != nil && one.place.session != 0 {
		if o.again(one, err, then) {
			return
		}
		err = one.place.verdict(err)
	}
	one.settle(result, err)
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

// triesMax is how often a client sends a command of a session before it gives the session up.
const triesMax = 30

// again sends a command of a session to another node, and reports whether it does.
func (o *oracle) again(one *op, err error, then func(*op)) bool {
	if node.OutcomeOf(err) == node.Unknown {
		one.place.uncertain = true
	}
	if errors.Is(err, node.ErrSessionExpired) || one.tries == triesMax {
		return false
	}
	one.awaits, one.call, one.process = 0, nil, nil
	o.w.stats.repeats++
	pause := time.Duration(o.w.rng.client.Int64N(int64(200 * time.Millisecond)))
	o.w.after(pause, func() {
		one.host = o.w.someHost(o.w.rng.client)
		o.send(one, then)
	})
	return true
}

// settle notes the end of an operation in its session.
func (one *op) settle(result node.Result, err error) {
	s := one.session
	switch {
	case s == nil:
	case one.system && err == nil:
		id, err := apply.ParseSession(result.Answer)
		if err != nil {
			panic(err)
		}
		*s = session{id: id}
	case one.system:
	case err == nil:
		s.acked = one.place.sequence
	default:
		*s = session{} // given up: another one is opened
	}
}

// processDied ends what clients had asked of a process.
func (o *oracle) processDied(p *process) {
	for _, one := range append([]*op(nil), o.open...) {
		if one.process == p {
			one.call.done(node.Result{}, unknown("the node died"))
		}
	}
}
