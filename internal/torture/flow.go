package torture

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// flow is one direction between two nodes, whichever of them dialled: what is cut here is not heard
// there, and its sender does not learn it. Bytes that meet a cut wait and go on when it is healed,
// as TCP would send them again.
type flow struct {
	from, to int

	bytes   atomic.Int64 // carried
	held    atomic.Int64 // chunks that met a cut
	delayed atomic.Int64 // chunks that were delayed

	mu struct {
		sync.Mutex
		open          chan struct{} // closed while the flow is open
		cut           bool
		delay, jitter time.Duration
		damage        bool     // one byte of each connection is to be changed
		damaged       []*relay // of which one was
	}
}

func newFlow(from, to int) *flow {
	f := &flow{from: from, to: to}
	f.mu.open = make(chan struct{})
	close(f.mu.open)
	return f
}

func (f *flow) setCut(cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cut == f.mu.cut {
		return
	}
	f.mu.cut = cut
	if cut {
		f.mu.open = make(chan struct{})
	} else {
		close(f.mu.open)
	}
}

func (f *flow) setDelay(delay, jitter time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.delay, f.mu.jitter = delay, jitter
}

func (f *flow) setDamage(damage bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.damage = damage
}

// pass waits until the flow is open and reports false when ctx ended first.
func (f *flow) pass(ctx context.Context) bool {
	for first := true; ; first = false {
		f.mu.Lock()
		open, cut := f.mu.open, f.mu.cut
		f.mu.Unlock()
		if !cut {
			return ctx.Err() == nil
		}
		if first {
			f.held.Add(1)
		}
		select {
		case <-open:
		case <-ctx.Done():
			return false
		}
	}
}

// due returns when a chunk that was read now may be written.
func (f *flow) due() time.Time {
	f.mu.Lock()
	delay, jitter := f.mu.delay, f.mu.jitter
	f.mu.Unlock()
	if delay == 0 {
		return time.Time{}
	}
	f.delayed.Add(1)
	return time.Now().Add(delay + rand.N(jitter+1))
}

// spoil changes a byte of what goes over r if that is wanted, once for each connection.
func (f *flow) spoil(r *relay, bytes []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.damage && r.damaged.CompareAndSwap(false, true) {
		bytes[rand.IntN(len(bytes))] ^= byte(1 + rand.IntN(255))
		f.mu.damaged = append(f.mu.damaged, r)
	}
}

// takeDamaged returns the connections of which a byte was changed, each once.
func (f *flow) takeDamaged() []*relay {
	f.mu.Lock()
	defer f.mu.Unlock()
	damaged := f.mu.damaged
	f.mu.damaged = nil
	return damaged
}
