package node

import (
	"sync"
	"sync/atomic"
	"testing"
)

// TestSerialKeepsOrder puts values from several goroutines while the serial falls idle again and
// again: each producer's values come in order, one at a time, and none is lost.
func TestSerialKeepsOrder(t *testing.T) {
	const producers, values = 4, 2000
	var last [producers]int
	var busy atomic.Bool
	var done sync.WaitGroup
	done.Add(producers * values)
	crew := newCrew()
	defer crew.close()
	s := newSerial(crew, func(v [2]int) {
		if busy.Swap(true) {
			t.Error("two values at a time")
		}
		if v[1] != last[v[0]]+1 {
			t.Errorf("producer %d: %d after %d", v[0], v[1], last[v[0]])
		}
		last[v[0]] = v[1]
		busy.Store(false)
		done.Done()
	})
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			for i := range values {
				if p == 0 && i == values/2 {
					s.begin() // what was put before waits, and comes first
				}
				if !s.put([2]int{p, i + 1}) {
					t.Error("refused before the end")
				}
			}
		})
	}
	wg.Wait()
	done.Wait()
	if left := s.end(); len(left) != 0 {
		t.Errorf("%d values left", len(left))
	}
}

// TestSerialEnd checks that nothing is worked off once end has returned, and that it returns what
// was not.
func TestSerialEnd(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	worked := 0
	crew := newCrew()
	defer crew.close()
	s := newSerial(crew, func(int) {
		close(entered)
		<-leave
		worked++
	})
	s.put(1)
	s.begin()
	<-entered
	s.put(2)
	s.put(3)
	ended := make(chan []int)
	go func() { ended <- s.end() }()
	for s.put(4) { // until the end has begun
	}
	close(leave)
	left := <-ended
	if worked != 1 || len(left) < 2 || left[0] != 2 || left[1] != 3 {
		t.Errorf("worked %d, left %v", worked, left)
	}
	if s.put(5) {
		t.Error("took a value after the end")
	}
}
