package sim_test

import "time"

// clock is the virtual time and what is to happen in it. Events of one instant happen in the order
// in which they were scheduled.
type clock struct {
	now    int64 // ns since the simulation began
	seq    uint32
	heap   []due // of four children each
	tasks  []task
	free   []uint32 // tasks that are done
	events uint64   // that have happened
}

// due says when a task is to be done. It has no pointers, since it is moved often.
type due struct {
	at   int64
	seq  uint32
	task uint32
}

// task is what an event does, on the schedule of a process if it is one's own.
type task struct {
	of *process
	do func()
}

func (d due) before(e due) bool { return d.at < e.at || d.at == e.at && d.seq < e.seq }

// at schedules do; a time that has passed means now.
func (c *clock) at(at int64, do func()) { c.put(at, task{do: do}) }

func (c *clock) after(d time.Duration, do func()) { c.put(c.now+int64(d), task{do: do}) }

func (c *clock) put(at int64, t task) {
	c.seq++
	d := due{at: max(at, c.now), seq: c.seq}
	if last := len(c.free) - 1; last >= 0 {
		d.task, c.free = c.free[last], c.free[:last]
		c.tasks[d.task] = t
	} else {
		d.task = uint32(len(c.tasks))
		c.tasks = append(c.tasks, t)
	}
	c.heap = append(c.heap, d)
	i := len(c.heap) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if !d.before(c.heap[parent]) {
			break
		}
		c.heap[i] = c.heap[parent]
		i = parent
	}
	c.heap[i] = d
}

// step lets the next event happen; false when there is none until the deadline, and the time is the
// deadline.
func (c *clock) step(deadline int64) bool {
	if len(c.heap) == 0 || c.heap[0].at > deadline {
		c.now = max(c.now, deadline)
		return false
	}
	next := c.pop()
	t := c.tasks[next.task]
	c.tasks[next.task] = task{}
	c.free = append(c.free, next.task)
	c.now = next.at
	c.events++
	if t.of != nil {
		t.of.perform(t.do)
	} else {
		t.do()
	}
	return true
}

func (c *clock) pop() due {
	last := len(c.heap) - 1
	top, d := c.heap[0], c.heap[last]
	heap := c.heap[:last]
	c.heap = heap
	if last == 0 {
		return top
	}
	i := 0
	for first := 1; first < len(heap); first = 4*i + 1 {
		least := first
		for child := first + 1; child < min(first+4, len(heap)); child++ {
			if heap[child].before(heap[least]) {
				least = child
			}
		}
		if !heap[least].before(d) {
			break
		}
		heap[i] = heap[least]
		i = least
	}
	heap[i] = d
	return top
}
