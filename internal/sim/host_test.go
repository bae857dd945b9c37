package sim_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/internal/vfs"
)

// host is a machine with a disk, a clock and a place in the network. Its process may die; the host
// stays.
type host struct {
	w     *world
	id    uint64
	disk  *vfs.Mem
	files *recorder  // around disk
	snaps *snapStore // the snapshots that are durable
	proc  *process   // nil while none runs
	life  uint64     // counts processes

	// The clock: local = localBase + (now - since) * rate.
	localBase, since int64
	rate             float64
	jumped           int64

	pausedUntil  int64    // nothing happens on this host before
	stalledUntil int64    // its disk answers nothing before
	permanent    bool     // broken for good: it does not start again by itself
	starts       int64    // when a start is due; -1 = none is
	crashStart   int      // the next start crashes at this operation of the disk; 0 = not
	deaths       []death  // of the present process and the next ones
	disarm       []func() // end the faults of the disk
	misread      bool     // its disk has misread, so groups may stop
	misreads     []func() // end the faults that flip what is read
	spoiled      bool     // a bit of its disk was flipped once
	weak         []bool   // by group: it may lack what it has acknowledged, and does not vote
	incarnation  uint64
	own          *vfs.Mem // while foreign: its own disk
	release      release
	promises     []promises // by group
	foreign      bool       // the disk is that of another cluster's node
	lost         bool       // its disk is, and no member takes it with another one: it never starts again

	// promised is what the log has promised for each group: what a synced append returned for.
	promised map[uint64]*logView
	// inFlight is the append that was under way when the process died.
	inFlight []ready
	mending  []uint64 // groups whose holes were being filled, and may be though that failed
}

func newHost(w *world, id uint64) *host {
	h := &host{w: w, id: id, disk: vfs.NewMem(), snaps: newSnapStore(), rate: 1, starts: -1,
		promised: map[uint64]*logView{}, weak: make([]bool, w.plan.config.groups+1),
		promises: make([]promises, w.plan.config.groups+1)}
	if h.isFirst() {
		h.weaken() // until it has begun for the first time
	}
	h.files = &recorder{FS: h.disk}
	h.watch()
	return h
}

// weaken says that the host may lack what it has acknowledged, until its groups have begun whole.
func (h *host) weaken() {
	for i := range h.weak {
		h.weak[i] = i > 0
	}
}

func (h *host) isWeak() bool { return slices.Contains(h.weak, true) }

// mayWeaken reports whether a quorum is whole in every group without this host: beyond that nobody
// promises anything.
func (h *host) mayWeaken() bool {
	return h.w.holds(func(other *host, group uint64) bool {
		return other != h && other.counts(group)
	})
}

// watch writes the operations of the disk into the readable trace.
func (h *host) watch() {
	if h.w.trace.out == nil {
		return
	}
	h.disk.Inject(vfs.Fault{Ops: changing, Times: -1, Do: vfs.Effect{Hook: func(op vfs.Op) {
		h.w.trace.say("n%d disk %v", h.id, &op)
	}}})
}

// local is what the host's clock shows.
func (h *host) local() int64 {
	return h.localBase + int64(float64(h.w.now-h.since)*h.rate)
}

// mono is local without the jumps.
func (h *host) mono() int64 { return h.local() - h.jumped }

// setClock changes the clock's rate and moves it by jump.
func (h *host) setClock(rate float64, jump time.Duration) {
	h.localBase, h.since, h.rate = h.local()+int64(jump), h.w.now, rate
	h.jumped += int64(jump)
}

func (h *host) note(what string, values ...uint64) { h.w.trace.note(what, h.id, 0, values...) }

// start schedules the start of a process; the earliest start counts.
func (h *host) start(after time.Duration) {
	at := h.w.now + int64(after)
	if h.proc != nil || h.lost || h.starts >= 0 && h.starts <= at {
		return
	}
	h.starts = at
	h.w.at(at, func() {
		if h.starts != at {
			return
		}
		h.starts = -1
		if h.proc == nil && !h.permanent && !h.lost {
			h.boot()
		}
	})
}

// boot starts a process on what the disk holds. A start that fails is tried again.
func (h *host) boot() {
	h.life++
	h.note("start", h.life)
	for _, remove := range h.misreads {
		remove() // a log that reads its newest bytes wrong takes them for torn, as it must
	}
	h.misreads = nil
	p := newProcess(h)
	opened := false
	crashed := h.dying(func() { opened = p.open() })
	p.dead = crashed || !opened
	switch {
	case crashed:
		h.note("crash during start")
		h.lose(h.w.rng.disk.IntN(2) == 0)
		h.start(h.w.between(10*time.Millisecond, time.Second))
	case !opened:
		h.disk.Kill()
		if h.foreign {
			h.putBack()
		}
		h.start(h.w.between(500*time.Millisecond, 2*time.Second))
	default:
		h.proc = p
		p.run()
	}
}

// death is the end of a process within one of its first appends.
type death struct {
	appends int  // before that one
	several bool // it is of several groups, so that one of its frames may be torn and another one whole
	away    time.Duration
	power   bool
}

// dieAgain has each of the next processes die within one of its first appends: what tears then stands
// behind what recovery has left.
func (h *host) dieAgain(r *rand.Rand, times int) {
	for range times {
		h.deaths = append(h.deaths, death{appends: r.IntN(choose(r, 1, 4, 16)),
			several: h.w.plan.config.groups > 1 && r.IntN(2) == 0,
			away:    time.Duration(r.Int64N(int64(100 * time.Millisecond))), power: r.IntN(3) > 0})
	}
}

// dies ends the process if this is the append within which it is to die.
func (h *host) dies(a *appender) bool {
	if len(h.deaths) == 0 {
		return false
	}
	d := &h.deaths[0]
	if d.several && len(a.updates) < 2 {
		return false
	}
	if d.appends--; d.appends >= 0 {
		return false
	}
	h.deaths = h.deaths[1:]
	h.crash(d.power)
	h.start(d.away)
	return true
}

// errDied is what every operation of the disk returns from the moment on at which the process
// dies. The process gets no further; what it still tries reaches nothing.
var errDied = errors.New("sim: the process has died")

// dying runs work with the disk set to end at the operation crashStart, and reports whether it did.
func (h *host) dying(work func()) (died bool) {
	if h.crashStart > 0 {
		remove := h.disk.Inject(vfs.Fault{Nth: h.crashStart, Times: -1, Ops: changing,
			Do: vfs.Effect{Err: errDied, Hook: func(vfs.Op) { died = true }}})
		defer remove()
		h.crashStart = 0
	}
	work()
	return died
}

// changing is every operation that matters to a crash.
const changing = vfs.OpWrite | vfs.OpTruncate | vfs.OpPreallocate | vfs.OpCreate | vfs.OpRemove |
	vfs.OpRename | vfs.OpAnySync

// crash ends the process: by kill, which leaves everything that was written, or with the machine,
// which leaves what a disk may hold then. An append under way is not begun, begun, or ended and
// not answered.
func (h *host) crash(power bool) {
	p := h.proc
	if p == nil {
		return
	}
	h.note("crash", boolWord(power))
	p.interrupt()
	p.die()
	h.lose(power)
}

// stop ends the process in order (Node.Close). With crashStart set the machine loses power
// meanwhile.
func (h *host) stop() {
	p := h.proc
	if p == nil || p.failed != nil {
		return
	}
	h.note("stop")
	p.die()
	if h.dying(p.close) {
		h.note("power lost during the stop")
		h.lose(true)
		return
	}
	if n := h.disk.OpenHandles(); n != 0 && p.wal.Err() == nil {
		h.w.violated("order", "node %d has %d files open after it stopped", h.id, n)
	}
	h.disk.Kill()
}

// handOver has every group of the node that leads look for another leader (Node.Drain).
func (h *host) handOver() {
	if h.proc == nil {
		return
	}
	for _, g := range h.proc.groups {
		if g.leads() {
			g.note("hand over")
			g.post(func(in *contents) {
				in.events = append(in.events, func(r *replica.Replica) { r.HandOver() })
			})
		}
	}
}

// lose brings the disk into the state after a kill or a power cut.
func (h *host) lose(power bool) {
	if !power {
		h.disk.Kill()
		return
	}
	h.disk = h.disk.Crash(h.w.rng.disk.Uint64())
	h.files.FS = h.disk
	h.watch()
}

func boolWord(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
