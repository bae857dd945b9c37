package torture

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// The checker's work grows with the number of writes that may still happen, with concurrency and
// with length, so these are bounded for each key; a key that has reached a bound gets no more
// operations, and another takes its place.
const (
	unknownMax     = 7 // writes with unknown outcome, or under way
	concurrentMax  = 6
	operationsMax  = 3000
	registersCount = 4
	countersCount  = 2
	exactCount     = 2
	beaconCount    = 1
)

// key is a register, which is set and read, or a counter, which is incremented and read.
type key struct {
	name    string
	counter bool
	exact   bool // a counter that only sessions use
	beacon  bool // a counter that only beacons use, of whose writes any number may be unknown

	// The keyspace's mutex guards the rest.
	history  []operation
	underway int // operations
	writing  int // those of them that are writes
	unknown  int
	values   int // counts the values written, so that each is unique
}

func (k *key) full() bool {
	return len(k.history)+k.underway >= operationsMax || k.unknown >= unknownMax && !k.beacon
}

// keyspace holds all keys of a run. Its methods may be called from any goroutine.
type keyspace struct {
	mu struct {
		sync.Mutex
		active, retired []*key // of active, exact ones and a beacon come last
		made            int
		random          *rand.Rand
		outcomes        map[outcome]int
		acknowledged    []int64 // times of return of acknowledged writes, with the calls
		calls           []int64
	}
}

func newKeyspace(random *rand.Rand) *keyspace {
	s := &keyspace{}
	s.mu.random = random
	s.mu.outcomes = map[outcome]int{}
	s.rotate()
	return s
}

// rotate gives the clients fresh keys. Operations under way end on the old ones.
func (s *keyspace) rotate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.retired = append(s.mu.retired, s.mu.active...)
	s.mu.active = nil
	for i := range registersCount + countersCount + exactCount + beaconCount {
		s.mu.active = append(s.mu.active, s.freshLocked(i))
	}
}

// freshLocked makes a key for a place among the active ones.
func (s *keyspace) freshLocked(i int) *key {
	s.mu.made++
	switch {
	case i < registersCount:
		return &key{name: fmt.Sprintf("r%d", s.mu.made)}
	case i < registersCount+countersCount:
		return &key{name: fmt.Sprintf("c%d", s.mu.made), counter: true}
	case i >= registersCount+countersCount+exactCount:
		return &key{name: fmt.Sprintf("b%d", s.mu.made), counter: true, beacon: true}
	}
	return &key{name: fmt.Sprintf("e%d", s.mu.made), counter: true, exact: true}
}

// placesLocked draws an order in which keys are tried: for half of what a session does, exact ones
// first.
func (s *keyspace) placesLocked(by user) []int {
	const shared = registersCount + countersCount
	order := s.mu.random.Perm(shared)
	exact := s.mu.random.Perm(exactCount)
	for i := range exact {
		exact[i] += shared
	}
	const beacon = shared + exactCount
	switch {
	case by == beaming, by == reading && s.mu.random.IntN(2) == 0:
		return []int{beacon}
	case by == anybody, by == reading:
		return order
	case by == watching:
		return exact
	case s.mu.random.IntN(2) == 0:
		return append(exact, order...)
	}
	return append(order, exact...)
}

// user is what kind of a client takes keys.
type user int

const (
	anybody   user = iota // all but exact keys
	inSession             // all keys
	watching              // exact keys, to read them
	reading               // the others, to read them
	beaming               // beacons, to increment them
)

// take begins an operation of a client: it draws a key, a kind and a value. ok is false when
// all keys have as much under way as they may.
func (s *keyspace) take(by user) (k *key, o operation, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.placesLocked(by) {
		if k = s.mu.active[i]; k.full() {
			s.mu.retired = append(s.mu.retired, k)
			k = s.freshLocked(i)
			s.mu.active[i] = k
		}
		free := k.exact || k.beacon // of the limits of porcupine, which does not judge it
		write := by == beaming ||
			by < watching && s.mu.random.IntN(2) == 0 && k.unknown+k.writing < unknownMax
		if k.underway >= concurrentMax && !free {
			continue
		}
		o = operation{Key: k.name, Kind: get}
		switch {
		case write && k.counter:
			o.Kind = incr
		case write:
			k.values++
			o.Kind, o.Value = set, fmt.Sprintf("%s.%d", k.name, k.values)
		}
		k.underway++
		if write {
			k.writing++
		}
		return k, o, true
	}
	return nil, operation{}, false
}

// give ends an operation that take began. A write whose outcome is unknown never returns.
func (s *keyspace) give(k *key, o operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.underway--
	if o.write() {
		k.writing--
		switch o.Outcome {
		case unknown:
			k.unknown++
			o.Return = never
		case applied:
			if k.beacon {
				break // they come by other ways than what waits for service looks at
			}
			s.mu.acknowledged = append(s.mu.acknowledged, o.Return)
			s.mu.calls = append(s.mu.calls, o.Call)
		}
	}
	if o.Via != viaWatcher && o.Via != viaBeacon { // some of its reads are answered whatever is broken
		s.mu.outcomes[o.Outcome]++
	}
	k.history = append(k.history, o)
}

// add records a read that was not begun by take.
func (s *keyspace) add(k *key, o operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.history = append(k.history, o)
}

// all returns every key of the run.
func (s *keyspace) all() []*key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(slices.Clone(s.mu.retired), s.mu.active...)
}

// counts returns how many operations have had each outcome.
func (s *keyspace) counts() (ok, definite, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.outcomes[applied], s.mu.outcomes[notApplied], s.mu.outcomes[unknown]
}

// firstWrite returns when the first write that was called at or after the given time was
// acknowledged.
func (s *keyspace) firstWrite(since int64) (at int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at = never
	const disorder = int64(time.Second) // operations are noted a moment after they return
	for i := len(s.mu.calls) - 1; i >= 0 && s.mu.acknowledged[i] >= since-disorder; i-- {
		if s.mu.calls[i] >= since {
			at = min(at, s.mu.acknowledged[i])
		}
	}
	return at, at != never
}
