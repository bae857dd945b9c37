package node

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// admission bounds what a group has accepted and not finished, and with it what the process has.
// While there is room it costs an addition for each of the two.
type admission struct {
	group gate
	node  *gate // shared by all groups
}

// enter admits a command of n bytes or says that there is no room.
func (a *admission) enter(n int) bool {
	if !a.group.enter(n) {
		return false
	}
	if a.node.enter(n) {
		return true
	}
	a.group.leave(n)
	return false
}

// wait admits a command of n bytes as soon as there is room and all who came before have it. It
// ends with the cause of ctx, or with errGateEnded.
func (a *admission) wait(ctx context.Context, n int) error {
	if err := a.group.wait(ctx, n); err != nil {
		return err
	}
	// Those who wait here hold room of their group, and give it back only when commands end that
	// have room of both. So the waits cannot lock each other.
	if err := a.node.wait(ctx, n); err != nil {
		a.group.leave(n)
		return err
	}
	return nil
}

func (a *admission) leave(n int) {
	a.node.leave(n)
	a.group.leave(n)
}

// errGateEnded: nobody is admitted by waiting any more. The group has stopped or the node closes.
var errGateEnded = errors.New("node: admission has ended")

// gate is one bound, in commands and in bytes. One command always fits an empty gate.
//
// Who waits stands in a queue, and room that comes free goes to its head, by whoever frees it: one
// waiter wakes for each command that fits, in the order of arrival, and nobody passes the queue.
type gate struct {
	commandsMax, bytesMax uint64
	// used holds the commands above gateBytesBits and their bytes below. It may exceed the bounds
	// for the moment in which somebody finds out that there is no room.
	used    atomic.Uint64
	waiting atomic.Int64 // the length of the queue
	mu      struct {
		sync.Mutex
		queue list.List // of *waiter
		ended bool
	}
}

// waiter is one call that waits for room.
type waiter struct {
	bytes    int
	admitted chan bool // takes one answer; false = the gate has ended
}

// gateBytesBits is how much of used counts bytes. The options keep both parts far from their ends.
const (
	gateBytesBits       = 38
	inflightBytesMax    = 1 << (gateBytesBits - 1)
	inflightCommandsMax = 1 << (64 - gateBytesBits - 1)
)

// limit sets the bounds, before the gate is used.
func (g *gate) limit(commands int, bytes int64) {
	g.commandsMax, g.bytesMax = uint64(commands), uint64(bytes)
}

func cost(n int) uint64 { return 1<<gateBytesBits + uint64(n) }

// commands returns how many commands are inside.
func (g *gate) commands() int64 { return int64(g.used.Load() >> gateBytesBits) }

// enter admits a command of n bytes, or says that there is no room or that others wait for it.
func (g *gate) enter(n int) bool {
	if g.waiting.Load() != 0 {
		return false
	}
	if g.take(n) {
		return true
	}
	g.leave(n) // as any other end: somebody may have queued up because of this attempt
	return false
}

// take counts a command in and reports whether it fits.
func (g *gate) take(n int) bool {
	used := g.used.Add(cost(n))
	commands, bytes := used>>gateBytesBits, used&(1<<gateBytesBits-1)
	return commands <= g.commandsMax && (bytes <= g.bytesMax || commands == 1)
}

// leave gives the room of a command back. A waiter looks for room after it has announced itself,
// and this looks for waiters after it has made room, so one of the two sees the other.
func (g *gate) leave(n int) {
	g.used.Add(-cost(n))
	if g.waiting.Load() != 0 {
		g.mu.Lock()
		g.grantLocked()
		g.mu.Unlock()
	}
}

// grantLocked admits waiters for as long as the first of them fits.
func (g *gate) grantLocked() {
	for first := g.mu.queue.Front(); first != nil; first = g.mu.queue.Front() {
		w := first.Value.(*waiter)
		if !g.take(w.bytes) {
			g.used.Add(-cost(w.bytes))
			return
		}
		g.removeLocked(first)
		w.admitted <- true // has room for the one answer, so it does not wait
	}
}

func (g *gate) removeLocked(e *list.Element) {
	g.mu.queue.Remove(e)
	g.waiting.Add(-1)
}

// wait admits a command of n bytes, in the order of arrival.
func (g *gate) wait(ctx context.Context, n int) error {
	if g.enter(n) {
		return nil
	}
	w := &waiter{bytes: n, admitted: make(chan bool, 1)}
	g.mu.Lock()
	if g.mu.ended {
		g.mu.Unlock()
		return errGateEnded
	}
	g.waiting.Add(1)
	place := g.mu.queue.PushBack(w)
	g.grantLocked()
	g.mu.Unlock()
	select {
	case admitted := <-w.admitted:
		if !admitted {
			return errGateEnded
		}
		return nil
	case <-ctx.Done():
		g.abandon(w, place)
		return context.Cause(ctx)
	}
}

// abandon takes a waiter out of the queue, or gives back what it has got meanwhile.
func (g *gate) abandon(w *waiter, place *list.Element) {
	g.mu.Lock()
	select {
	case admitted := <-w.admitted:
		g.mu.Unlock()
		if admitted {
			g.leave(w.bytes)
		}
	default:
		g.removeLocked(place)
		g.grantLocked() // the next one may be smaller
		g.mu.Unlock()
	}
}

// end sends everybody away who waits, and who comes to wait later.
func (g *gate) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.ended = true
	for first := g.mu.queue.Front(); first != nil; first = g.mu.queue.Front() {
		g.removeLocked(first)
		first.Value.(*waiter).admitted <- false
	}
}
