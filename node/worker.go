package node

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// worker is an event loop. It alone calls the cores of its groups. It never touches a disk, a
// socket or user code, and waits for nothing but its next event.
type worker struct {
	node  *Node
	first bool // of the node's workers: it does what is done once a tick for all
	wake  chan struct{}
	stop  chan struct{}
	ended chan struct{}

	mu struct {
		sync.Mutex
		runnable []*Group // have something in their inbox
	}
	// The rest is the loop's own.
	spare    []*Group // the slice runnable is swapped with
	awake    []*Group // get ticks; each group knows its place
	waiting  []*Group // had no room in the Ready channel
	holding  holding
	whispers whispers

	// unread counts the Readys this worker has put into the Ready channel and the log writer has
	// not taken out: at most quota, so that putting one never blocks.
	unread  atomic.Int64
	quota   int64
	starved atomic.Bool // a group waits for room
}

// workersMax is the most event loops that a node has. They share the log writer and the transport,
// which more of them would only wait for. More loops than processors would only take turns.
const workersMax = 4

// newWorkers makes the event loops of a node.
func newWorkers(n *Node) []*worker {
	workers := make([]*worker, min(runtime.GOMAXPROCS(0), runtime.NumCPU(), workersMax))
	for i := range workers {
		workers[i] = &worker{node: n, first: i == 0, quota: int64(cap(n.ready) / len(workers)),
			wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
			holding: newHolding(),
			whispers: whispers{rests: map[uint64][]byte{}, stirs: map[uint64][]byte{},
				resting: map[uint64][]*Group{}}}
	}
	return workers
}

// workerOf returns the event loop of a group.
func (n *Node) workerOf(group uint64) *worker { return n.workers[group%uint64(len(n.workers))] }

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
	ticker := time.NewTicker(w.node.options.Tick)
	defer ticker.Stop()
	for {
		var ticked bool
		select {
		case <-w.wake:
		case <-ticker.C:
			ticked = true
		case <-w.holding.timer.C:
			w.holding.flush()
		case <-w.stop:
			return
		}
		begun := time.Now()
		if ticked {
			w.tickAll()
		}
		runnable := w.take()
		for _, g := range runnable {
			g.turn()
		}
		clear(runnable)
		if len(w.waiting) > 0 && w.room() {
			waiting := w.waiting
			w.waiting = nil
			for _, g := range waiting {
				g.resume()
			}
		}
		w.tellWhispers()
		w.node.slow(StageLoop, 0, begun)
	}
}

// tickAll ticks the groups that are awake. A group may leave the list in its tick, and the last one
// takes its place, so the list is walked from its end.
func (w *worker) tickAll() {
	if w.first {
		w.node.relays.expire()
		w.node.disk.look()
		w.node.pulse.tick()
	}
	hung := w.node.disk.hangs.Load()
	for i := len(w.awake) - 1; i >= 0; i-- {
		w.awake[i].tick(hung)
	}
}

// add puts a group on the list of those that get ticks.
func (w *worker) add(g *Group) {
	if g.place == 0 {
		w.awake = append(w.awake, g)
		g.place = len(w.awake)
	}
}

// drop takes a group off the list.
func (w *worker) drop(g *Group) {
	if g.place == 0 {
		return
	}
	last := len(w.awake) - 1
	w.awake[g.place-1], w.awake[last].place = w.awake[last], g.place
	w.awake[last] = nil
	w.awake = w.awake[:last]
	g.place = 0
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
