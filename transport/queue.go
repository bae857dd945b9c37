package transport

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

// item is what becomes one frame.
type item struct {
	group    uint64
	messages []*raftpb.Message // of a raft frame; nil means a request
	kind     Kind
	payload  []byte
	cost     int64
}

func (i *item) encode(b *batch) {
	if i.messages != nil {
		b.raft(i.group, i.messages)
		return
	}
	b.request(i.group, i.kind, i.payload)
}

// queue holds what waits to be written to one stream. It takes items only while the stream is
// open: what is meant for a peer that is not there is stale before it comes back.
//
// The bound covers what is being written as well, so that it is a bound on memory. An item that
// exceeds it alone is taken by an empty queue, because it could never be sent otherwise.
type queue struct {
	limit int64
	wake  chan struct{} // holds a token while items may be waiting

	mu struct {
		sync.Mutex
		open  bool
		items []item
		bytes int64
		// dropped tells that something was refused since the queue was last opened.
		dropped bool
	}
}

func newQueue(limit int64) *queue {
	return &queue{limit: limit, wake: make(chan struct{}, 1)}
}

// push takes all items or none.
func (q *queue) push(items ...item) error {
	cost := int64(0)
	for i := range items {
		cost += items[i].cost
	}
	if err := q.add(items, cost); err != nil {
		return err
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

func (q *queue) add(items []item, cost int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.mu.open {
		q.mu.dropped = true
		return ErrNotConnected
	}
	if q.mu.bytes > 0 && q.mu.bytes+cost > q.limit {
		return ErrQueueFull
	}
	q.mu.items = append(q.mu.items, items...)
	q.mu.bytes += cost
	return nil
}

// takeAll returns everything that waits and keeps reuse for what comes next. The items stay
// on the account until release.
func (q *queue) takeAll(reuse []item) []item {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.mu.items
	q.mu.items = reuse[:0]
	return items
}

// release takes written items off the account.
func (q *queue) release(cost int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.bytes -= cost
}

// open lets items in and reports whether some were refused while it was shut.
func (q *queue) open() (dropped bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	dropped = q.mu.dropped
	q.mu.open, q.mu.dropped = true, false
	return dropped
}

// shut refuses further items, forgets those that wait and returns their number.
func (q *queue) shut() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.mu.items)
	q.mu.open, q.mu.items, q.mu.bytes = false, nil, 0
	return n
}

func (q *queue) bytes() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.bytes
}
