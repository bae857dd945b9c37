package node

import (
	"sync"
	"sync/atomic"
)

// crewIdleMax is the most goroutines that wait for work, over all groups of a node.
const crewIdleMax = 32

// crew runs functions on goroutines and keeps some that have nothing to do for the next function: a
// new one has to grow its stack first.
type crew struct {
	work    chan func() // a send finds only who waits
	idle    atomic.Int64
	quit    chan struct{}
	members sync.WaitGroup
}

func newCrew() *crew { return &crew{work: make(chan func()), quit: make(chan struct{})} }

// do runs f soon and returns at once. It must not be called after close.
func (c *crew) do(f func()) {
	select {
	case c.work <- f:
	default:
		c.members.Go(func() { c.serve(f) })
	}
}

func (c *crew) serve(f func()) {
	for {
		f()
		if c.idle.Add(1) > crewIdleMax {
			c.idle.Add(-1)
			return
		}
		select {
		case f = <-c.work:
			c.idle.Add(-1)
		case <-c.quit:
			return
		}
	}
}

// close ends the goroutines that wait and waits for those that work.
func (c *crew) close() {
	close(c.quit)
	c.members.Wait()
}
