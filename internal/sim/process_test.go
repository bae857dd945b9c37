package sim_test

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/wal"
)

const walDir = "data/wal"

// process is one life of a node: the twin of node/node.go and node/worker.go.
type process struct {
	h      *host
	w      *world
	life   uint64
	dead   bool
	opened bool // its groups are there

	wal      *wal.Log
	groups   []*group // by id, from 1
	appender *appender
	relays   *relays
	pulse    *pulse
	hung     bool   // the disk, as of the last tick
	lost     []bool // by peer: a PeerLost is on its way to this process
	refused  []bool // by peer: it is a member of no group any more

	// The worker's (node/worker.go).
	runnable []*group
	ran      []*group // the memory of runnable as of the last turn
	turn     func()   // of every group that is runnable
	turning  bool     // a turn is scheduled
	waiting  []*group
	unread   int
	starved  bool

	diskFull   bool
	lookedFull bool  // as of the last tick (diskWatch.look)
	asked      int64 // when lookForRoom asked last
	failed     error
}

func newProcess(h *host) *process {
	p := &process{h: h, w: h.w, life: h.life, lost: make([]bool, len(h.w.hosts)+1),
		refused: make([]bool, len(h.w.hosts)+1)}
	p.appender = newAppender(p)
	p.relays = newRelays(p)
	p.turn = p.turnAll
	p.pulse = &pulse{p: p, peers: make([]pulsePeer, len(h.w.hosts)+1)}
	return p
}

// after schedules something that this process does, on the host's schedule: not while the host is
// paused, and not when the process is dead.
func (p *process) after(d time.Duration, do func()) {
	p.w.put(p.w.now+int64(d), task{of: p, do: do})
}

func (p *process) perform(do func()) {
	switch {
	case p.dead:
	case p.h.pausedUntil > p.w.now:
		p.w.put(p.h.pausedUntil, task{of: p, do: do})
	default:
		do()
	}
}

// take is perform for a frame.
func (p *process) take(deliver func(*process)) {
	switch {
	case p.dead:
	case p.h.pausedUntil > p.w.now:
		p.w.at(p.h.pausedUntil, func() { p.take(deliver) })
	default:
		deliver(p)
	}
}

// open opens the log and starts the groups (node.Open and StartGroup). It reports false when the
// process cannot start now.
func (p *process) open() bool {
	c := &p.w.plan.config
	log, err := wal.Open(wal.Options{
		FS:           p.h.files,
		Dir:          walDir,
		Identity:     wal.Identity{ClusterID: p.h.cluster(), NodeID: p.h.id},
		Rand:         randReader{p.w.rng.identity},
		SegmentBytes: c.segmentBytes,
		CacheBytes:   c.cacheBytes,
		Repair:       p.h.hasPeers(),
		Inline:       true,
		Now:          func() time.Time { return time.Unix(0, p.h.local()) },
		Logger:       p.w.logger(p.h.id, 0),
	})
	if err != nil {
		p.h.checkOpenError(err)
		return false
	}
	p.wal = log
	p.h.checkRecovered(log)
	for id := uint64(1); id <= uint64(c.groups); id++ {
		p.groups = append(p.groups, newGroup(p, id))
	}
	p.opened = true
	for _, g := range p.groups {
		if err := g.start(); err != nil {
			p.h.checkOpenError(err)
			return false
		}
	}
	return true
}

// run lets a process that has opened its log take part.
func (p *process) run() {
	if p.failed != nil {
		p.exit()
		return
	}
	p.after(p.tickPeriod(), p.tick)
	p.after(p.w.plan.config.electionTime()/2, p.askWhetherGone)
	for _, g := range p.groups {
		if g.mender != nil {
			p.after(0, g.mender.run)
		}
	}
}

// tick is a tick of the worker's ticker, which never bursts: the next one is counted from now.
func (p *process) tick() {
	p.relays.expire()
	p.lookForRoom()
	p.lookForSync()
	if p.w.plan.config.rests {
		p.pulse.tick()
	}
	for _, g := range p.groups {
		if !g.resting {
			g.tick(p.hung)
			g.check()
		}
	}
	p.collectWaiting()
	p.after(p.tickPeriod(), p.tick)
}

func (p *process) tickPeriod() time.Duration {
	return time.Duration(float64(p.w.plan.config.tick) / p.h.rate)
}

// diskHung is node/diskwatch.go: a sync has been under way for longer than the limit.
func (p *process) diskHung() bool {
	begun := p.appender.begun
	return begun >= 0 && p.w.now-begun > int64(p.w.plan.config.electionTime())
}

// lookForSync is diskWatch.lookForSync.
func (p *process) lookForSync() {
	was := p.hung
	if p.hung = p.diskHung(); p.hung && !was {
		p.stirWhere((*group).leads, whisper{from: p.h.id})
	}
}

// schedule makes the worker run a turn of g soon.
func (p *process) schedule(g *group) {
	if g.scheduled {
		return
	}
	g.scheduled = true
	p.runnable = append(p.runnable, g)
	p.kick()
}

func (p *process) kick() {
	if p.turning {
		return
	}
	p.turning = true
	p.after(p.w.between(time.Microsecond, 50*time.Microsecond), p.turn)
}

func (p *process) turnAll() {
	p.turning = false
	runnable := p.runnable
	p.runnable = p.ran
	for _, g := range runnable {
		g.turn()
		g.check()
	}
	p.ran = runnable[:0]
	p.collectWaiting()
}

func (p *process) collectWaiting() {
	if len(p.waiting) == 0 || !p.room() {
		return
	}
	waiting := p.waiting
	p.waiting = nil
	for _, g := range waiting {
		g.resume()
		g.check()
	}
}

// room is worker.room.
func (p *process) room() bool {
	if p.unread < p.w.plan.config.readyQuota {
		return true
	}
	p.starved = true
	return false
}

// read is worker.read.
func (p *process) read() {
	p.unread--
	if p.starved {
		p.starved = false
		p.kick()
	}
}

// peerLost is handler.PeerLost.
func (p *process) peerLost(peer uint64) {
	p.relays.lostPeer(peer)
	for _, g := range p.groups {
		if !g.leads() && g.lead != peer {
			continue
		}
		g.post(func(in *contents) {
			in.events = append(in.events, func(r *replica.Replica) { r.Unreachable(peer) })
		})
	}
}

// fail is Node.fail: the log is gone, so every group falls silent and the process ends.
func (p *process) fail(err error) {
	if p.failed != nil {
		return
	}
	p.failed = err
	p.h.note("process failed")
	p.w.trace.say("n%d failed: %v", p.h.id, err)
	for _, g := range p.groups {
		g.fail(err)
	}
	p.after(p.w.between(0, 20*time.Millisecond), p.exit)
}

// exit ends a process that cannot go on; something starts it again.
func (p *process) exit() {
	p.h.note("exit")
	p.die()
	p.h.disk.Kill()
	p.h.start(p.w.between(100*time.Millisecond, 2*time.Second))
}

// die ends everything the process does. Clients at it see their connection break.
func (p *process) die() {
	p.dead = true
	p.h.proc = nil
	p.w.net.disconnect(p.h.id)
	p.w.oracle.processDied(p)
}

// interrupt lets an append that is under way reach some point before the process dies.
func (p *process) interrupt() {
	if p.appender.begun < 0 {
		return
	}
	switch p.w.rng.disk.IntN(4) {
	case 0:
		p.h.note("dies before the write")
	case 1:
		p.h.note("dies behind the sync")
		p.appender.attempt()
	case 2:
		p.h.note("dies before the sync")
		remove := p.h.disk.Inject(vfs.Fault{Ops: vfs.OpAnySync, Times: -1, Do: vfs.Effect{Err: errDied}})
		p.appender.attempt()
		remove()
	default:
		p.h.crashStart = 1 + p.w.rng.disk.IntN(4)
		p.h.note("dies within the write", uint64(p.h.crashStart))
		p.h.dying(p.appender.attempt)
		p.h.crashStart = 0
	}
}

// lookForRoom is diskWatch.look. A log without goroutines has no timer that asks a full disk for room
// once in a second: an append that carries nothing asks in its place.
func (p *process) lookForRoom() {
	if p.wal.Full() && p.w.now-p.asked >= int64(time.Second) {
		p.asked = p.w.now
		if err := p.wal.Append(nil, false); err != nil {
			p.w.trace.say("n%d asks for room: %v", p.h.id, err)
		}
	}
	p.lookedFull = p.wal.Full()
}

func (p *process) group(id uint64) *group { return p.groups[id-1] }

// logger gives the product's log to the trace.
func (w *world) logger(node, group uint64) *slog.Logger {
	if w.trace.out == nil {
		return slog.New(slog.DiscardHandler)
	}
	drop := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	out := writerFunc(func(b []byte) (int, error) {
		w.trace.say("n%d g%d log %s", node, group, b[:len(b)-1])
		return len(b), nil
	})
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: drop}))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// randReader reads bytes from a seeded source.
type randReader struct{ r *rand.Rand }

func (r randReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.r.Uint32())
	}
	return len(b), nil
}

var _ io.Reader = randReader{}

// raftLogger is the twin of node/logger.go.
type raftLogger struct{ log *slog.Logger }

var _ raft.Logger = raftLogger{}

func (l raftLogger) Debug(...any)            {}
func (l raftLogger) Debugf(string, ...any)   {}
func (l raftLogger) Info(...any)             {}
func (l raftLogger) Infof(string, ...any)    {}
func (l raftLogger) Warning(...any)          {}
func (l raftLogger) Warningf(string, ...any) {}
func (l raftLogger) Error(...any)            {}
func (l raftLogger) Errorf(string, ...any)   {}
func (l raftLogger) Fatal(v ...any)          { panic(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(f string, v ...any) {
	panic(fmt.Sprintf(f, v...))
}
func (l raftLogger) Panic(v ...any) { panic(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(f string, v ...any) {
	panic(fmt.Sprintf(f, v...))
}

func unknown(why string) error { return fmt.Errorf("%w: %s", node.ErrUnknown, why) }
