package node

import "sync"

// spareItemsMax is the capacity up to which a queue keeps a slice for its next use.
const spareItemsMax = 1024

// queue hands values from many producers to one consumer, in order. It has no bound of its own:
// each user says in its comment what bounds it.
type queue[T any] struct {
	mu    sync.Mutex
	items []T
	spare []T
	wake  chan struct{} // holds a token when items may be waiting
}

func newQueue[T any]() *queue[T] { return &queue[T]{wake: make(chan struct{}, 1)} }

// put appends items and never blocks.
func (q *queue[T]) put(items ...T) {
	q.mu.Lock()
	q.items = append(q.items, items...)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns everything that waits, in order. The slice is the consumer's until its next take.
func (q *queue[T]) take() []T {
	if cap(q.spare) > spareItemsMax {
		q.spare = nil // one burst must not pin its memory for ever
	}
	clear(q.spare)
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items, q.spare = q.spare[:0], items
	return items
}
