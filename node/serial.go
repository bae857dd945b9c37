package node

import "sync"

// spareTasksMax is the capacity up to which a serial keeps its slices while it has nothing to do:
// there are many groups, and most of them are idle.
const spareTasksMax = 4

// serial works values off one after the other, in the order in which they were put. Its goroutine
// lives only while there is something to do, so that an idle one costs no stack. It has no bound of
// its own: each user says in its comment what bounds it.
type serial[T any] struct {
	crew *crew
	work func(T)
	mu   struct {
		sync.Mutex
		items []T
		spare []T
		begun bool          // before that values only wait
		ended bool          // nothing is taken any more
		quiet chan struct{} // not nil while the goroutine runs; closed when it ends
	}
}

func newSerial[T any](crew *crew, work func(T)) *serial[T] {
	return &serial[T]{crew: crew, work: work}
}

// put appends a value and never blocks. It reports false, and does nothing, once the serial has
// ended.
func (s *serial[T]) put(item T) bool {
	s.mu.Lock()
	ended := s.mu.ended
	if !ended {
		s.mu.items = append(s.mu.items, item)
	}
	quiet := s.dueLocked()
	s.mu.Unlock()
	s.start(quiet)
	return !ended
}

// begin has the values worked off, those that wait and those that come.
func (s *serial[T]) begin() {
	s.mu.Lock()
	s.mu.begun = true
	quiet := s.dueLocked()
	s.mu.Unlock()
	s.start(quiet)
}

// dueLocked returns the channel of the goroutine that is to run, nil when none is.
func (s *serial[T]) dueLocked() chan struct{} {
	if !s.mu.begun || s.mu.ended || s.mu.quiet != nil || len(s.mu.items) == 0 {
		return nil
	}
	s.mu.quiet = make(chan struct{})
	return s.mu.quiet
}

func (s *serial[T]) start(quiet chan struct{}) {
	if quiet != nil {
		s.crew.do(func() { s.run(quiet) })
	}
}

func (s *serial[T]) run(quiet chan struct{}) {
	defer close(quiet)
	for {
		items := s.take()
		if items == nil {
			return
		}
		for i := range items {
			s.work(items[i])
		}
	}
}

// take returns what waits; nil when there is nothing and the goroutine ends. The slice is the
// goroutine's until its next take.
func (s *serial[T]) take() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.mu.spare)
	if s.mu.ended || len(s.mu.items) == 0 {
		s.mu.quiet = nil
		if cap(s.mu.spare) > spareTasksMax {
			s.mu.spare = nil
		}
		if !s.mu.ended && cap(s.mu.items) > spareTasksMax {
			s.mu.items = nil
		}
		return nil
	}
	if cap(s.mu.spare) > spareItemsMax {
		s.mu.spare = nil // one burst must not pin its memory for ever
	}
	items := s.mu.items
	s.mu.items, s.mu.spare = s.mu.spare[:0], items
	return items
}

// end refuses whatever comes later, waits until the goroutine has ended, and returns what was not
// worked off. Only the first call returns anything.
func (s *serial[T]) end() []T {
	s.mu.Lock()
	s.mu.ended = true
	quiet := s.mu.quiet
	s.mu.Unlock()
	if quiet != nil {
		<-quiet
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	items := s.mu.items
	s.mu.items, s.mu.spare = nil, nil
	return items
}
