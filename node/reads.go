package node

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync/atomic"
	"time"

	"github.com/connectraft/connect/internal/replica"
)

// ReadLevel says how fresh a read must be. Every level may be asked on every node, learners included.
// The zero value is Linearizable.
type ReadLevel struct {
	freshness replica.Freshness
	local     bool   // asks nobody
	index     uint64 // that the answer must reflect
}

// Linearizable: the answer reflects every command acknowledged anywhere before the read began. It costs
// a round of heartbeats, which all reads that wait at one time share.
var Linearizable = ReadLevel{}

// Lease is Linearizable for as long as the clocks of the members run at the same speed within a
// tenth, and all of them have the same Tick and ElectionTicks: who changes these node by node asks
// for no such reads meanwhile. The leader answers at once while it has a lease; otherwise, and on
// other nodes, it costs a round.
var Lease = ReadLevel{freshness: replica.Freshness{Leased: true}}

// Stale: the answer reflects every command acknowledged anywhere maxAge before the read began, on
// whatever node: a node that is cut off for longer does not answer. With 0 or less it is this node's
// present state, however old that is, and nobody is asked.
func Stale(maxAge time.Duration) ReadLevel {
	if maxAge <= 0 {
		return ReadLevel{local: true}
	}
	return ReadLevel{freshness: replica.Freshness{MaxAge: maxAge}}
}

// AtLeast: the answer reflects the log up to index, which the Result of a command or of an earlier read
// has named. It waits until this node has applied so much, and asks nobody.
func AtLeast(index uint64) ReadLevel { return ReadLevel{local: true, index: index} }

// leaseDrift is the part of a lease that clocks of different speed may take away: one in so many.
const leaseDrift = 10

// lease is how long a leader may answer reads after the beginning of a round (replica.Config.Lease).
func (o *Options) lease() time.Duration {
	d := time.Duration(max(0, o.ElectionTicks-2)) * o.Tick
	return d - d/leaseDrift
}

// GoRead queues a read and returns at once. It may be asked on any node.
func (g *Group) GoRead(query []byte, level ReadLevel) *Call {
	c := newRead(g, query, level)
	if err := g.admit(c); err != nil {
		c.refuse(err)
		return c
	}
	return g.queueRead(c)
}

// Read answers a query from the state machine, as fresh as level says. While there is no room it
// waits, as Propose does.
func (g *Group) Read(ctx context.Context, query []byte, level ReadLevel) (Result, error) {
	c := newRead(g, query, level)
	err := g.check(c)
	if err == nil {
		err = g.awaitAdmission(ctx, c)
	}
	if err != nil {
		return Result{}, err
	}
	result, err := g.queueRead(c).Wait(ctx)
	c.recycle()
	return result, err
}

func newRead(g *Group, query []byte, level ReadLevel) *Call {
	c := newCall(g, query)
	c.level = level
	return c
}

// queueRead gives an admitted read to the stage that serves its level.
func (g *Group) queueRead(c *Call) *Call {
	taken := false
	if c.level.local {
		taken = g.apply.put(applyTask{reads: []replica.ReadRound{
			{Index: c.level.index, Reads: []replica.Read{c}}}})
	} else {
		taken = g.postRead(c)
	}
	if !taken {
		c.finish(Result{}, g.stopError())
	}
	return c
}

// Freshness is part of the core's view of a read.
func (c *Call) Freshness() replica.Freshness { return c.level.freshness }

// probe is the node's own first read of a group.
type probe struct{ group *Group }

func (p probe) Withdrawn() bool              { return false }
func (p probe) Freshness() replica.Freshness { return replica.Freshness{} }

// parked is the reads that wait in the apply stage for their index, in the order of it.
type parked struct {
	rounds []replica.ReadRound // the stage's own
	count  atomic.Int64        // of rounds
	due    atomic.Bool         // a sweep is
}

// add takes rounds in. They mostly come in order.
func (p *parked) add(rounds []replica.ReadRound) {
	for _, round := range rounds {
		at := len(p.rounds)
		if at > 0 && p.rounds[at-1].Index > round.Index {
			at = sort.Search(at, func(i int) bool { return p.rounds[i].Index > round.Index })
		}
		p.rounds = slices.Insert(p.rounds, at, round)
	}
	p.count.Store(int64(len(p.rounds)))
}

// next takes one read out whose index is applied.
func (p *parked) next(applied uint64) (replica.Read, bool) {
	for len(p.rounds) > 0 && p.rounds[0].Index <= applied {
		first := &p.rounds[0]
		if len(first.Reads) > 0 {
			r := first.Reads[0]
			first.Reads = first.Reads[1:]
			return r, true
		}
		p.rounds[0] = replica.ReadRound{}
		p.rounds = p.rounds[1:]
		p.count.Add(-1)
	}
	return nil, false
}

// take takes everything out.
func (p *parked) take() []replica.ReadRound {
	rounds := p.rounds
	p.rounds = nil
	p.count.Store(0)
	return rounds
}

// sweep takes the reads out whose waiters have left.
func (p *parked) sweep() (left []replica.Read) {
	p.due.Store(false)
	kept := p.rounds[:0]
	for _, round := range p.rounds {
		waiting := round.Reads[:0]
		for _, r := range round.Reads {
			if r.Withdrawn() {
				left = append(left, r)
			} else {
				waiting = append(waiting, r)
			}
		}
		if round.Reads = waiting; len(waiting) > 0 {
			kept = append(kept, round)
		}
	}
	clear(p.rounds[len(kept):])
	p.rounds = kept
	p.count.Store(int64(len(kept)))
	return left
}

// sweep ends the reads whose waiters have left; on a node that was removed it ends all, because it
// applies nothing any more.
func (a *applier) sweep() {
	for _, r := range a.parked.sweep() {
		a.group.finishRead(r, ErrNoLeader)
	}
	if !a.group.outside() {
		return
	}
	for _, round := range a.parked.take() {
		for _, r := range round.Reads {
			a.group.finishRead(r, fmt.Errorf("%w: group %d", ErrRemoved, a.group.id))
		}
	}
}

// hasLeft reports whether the waiter of any of the reads has left.
func hasLeft(round replica.ReadRound) bool {
	return slices.ContainsFunc(round.Reads, replica.Read.Withdrawn)
}

// sweepSoon has the reads swept that wait for their index, when there are any. A read may wait for an
// index that is never reached: its room is needed.
func (a *applier) sweepSoon() {
	if a.parked.count.Load() > 0 && a.parked.due.CompareAndSwap(false, true) {
		a.put(applyTask{sweep: true})
	}
}

// serveReads answers the reads whose index is applied. A read leaves the list before user code runs
// for it, so that it ends once whatever that code does.
func (a *applier) serveReads() error {
	applied := a.applied.Load()
	for {
		r, ok := a.parked.next(applied)
		if !ok {
			return nil
		}
		if err := a.serveRead(r, applied); err != nil {
			return err
		}
	}
}

func (a *applier) serveRead(r replica.Read, applied uint64) error {
	call, ok := r.(*Call)
	if !ok {
		a.group.becomeReady()
		return nil
	}
	if !call.Take() {
		call.finish(Result{}, ErrNoLeader)
		return nil
	}
	ended := false
	defer func() {
		if !ended { // a panic
			call.finish(Result{}, fmt.Errorf("%w: panic in a query", ErrGroupFailed))
		}
	}()
	answer, err := a.stage.Query(call.payload)
	ended = true
	if err != nil {
		call.finish(Result{}, fmt.Errorf("%w: %w", ErrGroupFailed, err))
		return fmt.Errorf("node: state machine query: %w", err)
	}
	call.finish(Result{Index: applied, Answer: answer}, nil)
	return nil
}
