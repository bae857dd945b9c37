package sim_test

import "time"

// clock is the virtual time and what is to happen in it. Events of one instant happen in the order
// in which they were scheduled.
type clock struct {
	now    int64 // ns since the simulation began
	seq    uint64
	heap   []event
	events uint64 // that have happened
}

type event struct {
	at  int64
	seq uint64
	do  func()
}

func (e event) before(f event) bool { return e.at < f.at || e.at == f.at && e.seq < f.seq }

// at schedules do; a time that has passed means now.
func (c *clock) at(at int64, do func()) {
	c.seq++
	c.heap = append(c.heap, event{max(at, c.now), c.seq, do})
	for i := len(c.heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if !c.heap[i].before(c.heap[parent]) {
			break
		}
		c.heap[i], c.heap[parent] = c.heap[parent], c.heap[i]
		i = parent
	}
}

func (c *clock) after(d time.Duration, do func()) { c.at(c.now+int64(d), do) }

// step lets the next event happen; false when there is none until the deadline, and the time is the
// deadline.
func (c *clock) step(deadline int64) bool {
	if len(c.heap) == 0 || c.heap[0].at > deadline {
		c.now = max(c.now, deadline)
		return false
	}
	e := c.pop()
	c.now = e.at
	c.events++
	e.do()
	return true
}

func (c *clock) pop() event {
	top, last := c.heap[0], len(c.heap)-1
	c.heap[0] = c.heap[last]
	c.heap[last] = event{}
	c.heap = c.heap[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if c.heap[child].before(c.heap[least]) {
				least = child
			}
		}
		if least == i {
			return top
		}
		c.heap[i], c.heap[least] = c.heap[least], c.heap[i]
		i = least
	}
}
