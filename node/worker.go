package node

import (
	"sync"
	"sync/atomic"
	"time"
)

// worker is an event loop. It alone calls the cores of its groups. It never touches a disk, a
// socket or user code, and waits for nothing but its next event.
type worker struct {
	tick   time.Duration
	disk   *diskWatch
	relays *relays
	wake   chan struct{}
	stop   chan struct{}
	ended  chan struct{}

	mu struct {
		sync.Mutex
		runnable []*Group // have something in their inbox
	}
	// The rest is the loop's own.
	spare   []*Group // the slice runnable is swapped with
	groups  []*Group // get ticks
	waiting []*Group // had no room in the Ready channel

	// unread counts the Readys this worker has put into the Ready channel and the log writer has
	// not taken out: at most quota, so that putting one never blocks.
	unread  atomic.Int64
	quota   int64
	starved atomic.Bool // a group waits for room
}

func newWorker(tick time.Duration, disk *diskWatch, relays *relays, quota int) *worker {
	return &worker{tick: tick, disk: disk, relays: relays, quota: int64(quota), wake: make(chan struct{}, 1),
		stop: make(chan struct{}), ended: make(chan struct{})}
}

// schedule makes the loop run a turn of g soon.
func (w *worker) schedule(g *Group) {
	if !g.scheduled.CompareAndSwap(false, true) {
		return
	}
	w.mu.Lock()
	w.mu.runnable = append(w.mu.runnable, g)
	w.mu.Unlock()
	w.kick()
}

func (w *worker) kick() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) take() []*Group {
	w.mu.Lock()
	defer w.mu.Unlock()
	groups := w.mu.runnable
	w.mu.runnable, w.spare = w.spare[:0], groups
	return groups
}

// run is the loop. A ticker holds at most one tick: after a pause there is no burst, because raft
// would take a burst for a long silence of the leader.
func (w *worker) run() {
	defer close(w.ended)
	ticker := time.NewTicker(w.tick)
	defer ticker.Stop()
	for {
		var ticked bool
		select {
		case <-w.wake:
		case <-ticker.C:
			ticked = true
		case <-w.stop:
			return
		}
		begun := time.Now()
		if ticked {
			w.tickAll()
		}
		for _, g := range w.take() {
			g.turn()
		}
		if len(w.waiting) > 0 && w.room() {
			waiting := w.waiting
			w.waiting = nil
			for _, g := range waiting {
				g.resume()
			}
		}
		w.disk.node.slow(StageLoop, 0, begun)
	}
}

func (w *worker) tickAll() {
	w.relays.expire()
	hung := w.disk.look()
	for _, g := range w.groups {
		g.tick(hung)
	}
}

// room reports whether one more Ready fits the Ready channel. Without room the group must be
// scheduled again when read says so.
func (w *worker) room() bool {
	if w.unread.Load() < w.quota {
		return true
	}
	w.starved.Store(true)
	return w.unread.Load() < w.quota
}

// read is called by the log writer when it has taken a Ready out of the channel.
func (w *worker) read() {
	w.unread.Add(-1)
	if w.starved.Load() && w.starved.CompareAndSwap(true, false) {
		w.kick()
	}
}
