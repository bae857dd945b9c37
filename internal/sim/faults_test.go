package sim_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// plan is everything about a run that does not follow from its course.
type plan struct {
	config config
	length time.Duration // of the safety phase
	faults []fault
}

// fault is one entry of the list that a failure report shortens.
type fault struct {
	at     time.Duration
	kind   faultKind
	node   uint64 // 0 = as the kind says
	lasts  time.Duration
	number uint64 // what else the kind needs
}

func (f fault) String() string {
	return fmt.Sprintf("%8.3fs %s node %d for %v (%#x)", f.at.Seconds(), f.kind, f.node, f.lasts,
		f.number)
}

type faultKind int

const (
	faultKill      faultKind = iota // kill -9, and a start after a while
	faultStop                       // an orderly stop, during which the machine may lose power
	faultTransfer                   // a node hands its leaderships over
	faultPower                      // a power cut of one machine
	faultCrashSome                  // of several at once
	faultCrashAll                   // of all at once
	faultOutage                     // a node is away so long that its log is no longer there
	faultRecovery                   // a power cut, and another one while the node starts
	faultPause                      // nothing runs, then the clock has jumped
	faultRate                       // a clock runs at another rate
	faultJump                       // a clock jumps
	faultStall                      // a disk answers nothing
	faultFull                       // a disk has no room
	faultIO                         // a write or a sync fails
	faultRead                       // a read fails, or returns something else
	faultLie                        // a sync fails once, and its pages count as clean
	faultFlip                       // a bit of the log is flipped while the node is down
	faultWipe                       // the disk of a node that is down is replaced by an empty one
	faultForeign                    // the disk of another cluster's node is put in
	faultRot                        // the newest snapshot is damaged while the node is down
	faultIsolate                    // one node is cut off
	faultSplit                      // two halves
	faultOneWay                     // one node hears nothing, or is not heard
	faultPartial                    // some links are cut, some in one direction
	faultClog                       // links hold everything back, then deliver it at once
	faultKinds
)

func (k faultKind) String() string {
	return [...]string{"kill", "stop", "transfer", "power", "crash some", "crash all", "outage", "crash in recovery",
		"pause", "rate", "jump", "stall", "full", "io", "read", "lie", "flip", "wipe",
		"foreign disk", "rot", "isolate", "split",
		"one way", "partial", "clog"}[k]
}

// drawPlan draws a plan. Each run has some kinds of faults and not the others, and its own pace. If
// kinds are given it has these, and three nodes, where each counts most.
func drawPlan(seed uint64, length time.Duration, only ...faultKind) plan {
	r := newSources(seed).plan
	p := plan{config: drawConfig(r), length: length}
	if only != nil {
		p.config.replicas = 3
	}
	var kinds []faultKind
	for k := range faultKinds {
		// A disk that is lost as a whole only comes when it is asked for: a node that is started on an
		// empty one does not keep its fence over a restart, and takes the cluster for new if the
		// first that answers has not met it yet either. Seeds with -sim.faults="wipe,kill,isolate"
		// show both.
		if r.IntN(100) < 40 && k != faultWipe {
			kinds = append(kinds, k)
		}
	}
	if only != nil {
		kinds = only
	}
	if len(kinds) == 0 {
		return p
	}
	gap := choose[time.Duration](r, 300, 1000, 3000) * time.Millisecond
	lasts := choose[time.Duration](r, 200, 1000, 4000) * time.Millisecond
	for at := time.Second; at < length; at += time.Duration(r.Int64N(int64(2 * gap))) {
		f := fault{at: at, kind: kinds[r.IntN(len(kinds))], number: r.Uint64(),
			node:  uint64(1 + r.IntN(p.config.replicas)),
			lasts: time.Duration(r.Int64N(int64(2*lasts)) + 1)}
		if f.kind == faultOutage {
			f.lasts += 5 * time.Second
		}
		p.faults = append(p.faults, f)
	}
	return p
}

// inject begins a fault.
func (w *world) inject(f fault) {
	w.trace.note("fault", f.node, 0, uint64(f.kind), f.number)
	w.trace.say("fault %v", f)
	w.stats.faults[f.kind]++
	r := rand.New(rand.NewPCG(f.number, 1))
	h := w.host(f.node)
	switch f.kind {
	case faultTransfer:
		h.handOver()
	case faultStop:
		if r.IntN(4) == 0 {
			h.crashStart = 1 + r.IntN(6)
		}
		h.stop()
		h.start(f.lasts)
	case faultKill, faultPower, faultOutage, faultCrashSome, faultCrashAll, faultRecovery, faultFlip, faultWipe,
		faultForeign, faultRot:
		w.injectCrash(f, h, r)
	case faultPause, faultRate, faultJump:
		w.injectClock(f, h, r)
	case faultStall, faultFull, faultIO, faultRead, faultLie:
		w.injectDisk(f, h, r)
	default:
		w.injectLinks(f, r)
	}
}

func (w *world) injectCrash(f fault, h *host, r *rand.Rand) {
	hosts := []*host{h}
	switch f.kind {
	case faultCrashAll:
		hosts = w.hosts
	case faultCrashSome:
		hosts = nil
		for _, i := range r.Perm(len(w.hosts))[:1+r.IntN(len(w.hosts))] {
			hosts = append(hosts, w.hosts[i])
		}
	}
	for _, h := range hosts {
		h.crash(f.kind != faultKill && (f.kind != faultCrashSome || r.IntN(2) == 0))
		h.start(f.lasts + time.Duration(r.Int64N(int64(100*time.Millisecond))))
	}
	switch f.kind {
	case faultRecovery:
		h.crashStart = 1 + r.IntN(25)
	case faultFlip:
		h.flip(r)
	case faultRot:
		h.rot(r)
	case faultWipe:
		h.wipe()
	case faultForeign:
		h.swap()
	}
}

// swap gives a node that is down the disk of a node of another cluster. It must refuse it, and gets its
// own back.
func (h *host) swap() {
	if h.proc != nil || h.foreign {
		return
	}
	other := vfs.NewMem()
	log, err := wal.Open(wal.Options{FS: other, Dir: walDir, Inline: true, SegmentBytes: 4 << 10,
		Identity: wal.Identity{ClusterID: "other", NodeID: h.id, Incarnation: 1}})
	if err != nil {
		h.w.violated("recovery", "a new log is not made: %v", err)
	}
	for group := range h.w.plan.config.groups {
		err = errors.Join(err, log.Append([]wal.Update{{Group: uint64(group + 1),
			State: &wal.State{Term: 9, Commit: 9},
			Mark:  &wal.Mark{Index: 9, Term: 9, ConfState: &pb.ConfState{Voters: []uint64{h.id}}}}}, true))
	}
	if err := errors.Join(err, log.Close()); err != nil {
		h.w.violated("recovery", "a new log is not written: %v", err)
	}
	h.own, h.disk, h.foreign = h.disk, other, true
	h.files.FS = other
	h.note("foreign disk")
}

// putBack ends swap.
func (h *host) putBack() {
	h.disk, h.own, h.foreign = h.own, nil, false
	h.files.FS = h.disk
	h.note("own disk")
}

// cluster is the cluster that the node believes to be of.
func (h *host) cluster() string {
	if h.foreign && h.w.is(anyCluster) {
		return "other"
	}
	return "sim"
}

// wipe makes a node that is down forget everything.
func (h *host) wipe() {
	if h.proc != nil || h.foreign || !h.mayWeaken() {
		return
	}
	h.weaken()
	h.disk = vfs.NewMem()
	h.files.FS = h.disk
	h.snaps = newSnapStore()
	h.promised, h.inFlight, h.incarnation = map[uint64]*logView{}, nil, 0
	h.note("wiped")
}

// flip damages the log of a node that is down, at a place that later appends have confirmed.
func (h *host) flip(r *rand.Rand) {
	if h.proc != nil || h.foreign || !h.mayWeaken() {
		return
	}
	name, at, ok := h.files.confirmed(r.IntN)
	if !ok {
		return
	}
	h.disarmAll()
	file, err := h.disk.OpenFile(name, os.O_RDWR)
	if err != nil {
		return
	}
	b := make([]byte, 1)
	if _, err := file.ReadAt(b, at); err == nil {
		b[0] ^= 1 << r.IntN(8)
		if _, err := file.WriteAt(b, at); err == nil && file.Sync() == nil {
			h.spoiled = true
			h.weaken()
			h.note("flip", hashString(name), uint64(at))
			h.w.trace.say("n%d bit flipped in %s at %d", h.id, name, at)
		}
	}
	file.Close()
	h.disk.Kill()
}

// rot damages the newest snapshot of each group that has an older one that the log goes on behind. The
// only one that does is another matter: without it a group does not start, and says so.
func (h *host) rot(r *rand.Rand) {
	for id := range h.w.plan.config.groups {
		list := h.snaps.list(uint64(id + 1))
		if len(list) > 1 && !list[1].rotten && h.view(uint64(id+1)).base <= list[1].index &&
			r.IntN(2) == 0 {
			list[0].rotten = true
			h.note("rot", uint64(id+1), list[0].index)
		}
	}
}

func (w *world) injectClock(f fault, h *host, r *rand.Rand) {
	switch f.kind {
	case faultPause:
		h.pausedUntil = max(h.pausedUntil, w.now+int64(f.lasts))
	case faultRate:
		h.setClock([]float64{0.5, 0.8, 0.99, 1.01, 1.25, 2}[r.IntN(6)], 0)
		w.after(f.lasts, func() { h.setClock(1, 0) })
	case faultJump:
		h.setClock(h.rate, time.Duration(r.Int64N(int64(20*time.Second)))-10*time.Second)
	}
}

func (w *world) injectDisk(f fault, h *host, r *rand.Rand) {
	disk := h.disk
	switch f.kind {
	case faultRead:
		if !h.mayWeaken() {
			return // the log takes what it cannot read when it is opened for damage
		}
		h.weaken()
		do := choose(r, vfs.Effect{Err: vfs.ErrIO},
			vfs.Effect{FlipBit: true, FlipBitAt: r.IntN(1 << 20)})
		remove := disk.Inject(vfs.Fault{Ops: vfs.OpRead, Nth: 1 + r.IntN(20), Times: 1 + r.IntN(2),
			Do: do})
		h.misread = true
		h.disarm = append(h.disarm, remove)
		if do.FlipBit {
			h.misreads = append(h.misreads, remove)
		}
		w.after(f.lasts, remove)
	case faultStall:
		h.stalledUntil = max(h.stalledUntil, w.now+int64(f.lasts))
	case faultFull:
		disk.SetLimit(disk.Used() + r.Int64N(8<<10))
		w.after(f.lasts, func() { h.disk.SetLimit(0) })
	case faultIO:
		ops := choose(r, vfs.OpWrite, vfs.OpSyncData|vfs.OpSync, vfs.OpSyncDir, vfs.OpCreate,
			vfs.OpRename, vfs.OpPreallocate)
		remove := disk.Inject(vfs.Fault{Ops: ops, Nth: 1 + r.IntN(3),
			Do: vfs.Effect{Err: vfs.ErrIO, Short: r.IntN(100)}})
		h.disarm = append(h.disarm, remove)
		w.after(f.lasts, remove)
	case faultLie:
		remove := disk.Inject(vfs.Fault{Ops: vfs.OpSyncData | vfs.OpSync, Nth: 1 + r.IntN(3),
			Do: vfs.SyncFailsOnce()})
		h.disarm = append(h.disarm, remove)
		w.after(f.lasts, remove)
	}
}

func (w *world) injectLinks(f fault, r *rand.Rand) {
	n := len(w.hosts)
	hit := make([][2]uint64, 0, n*n)
	sides := make([]bool, n+1)
	for i := range sides {
		sides[i] = r.IntN(2) == 0
	}
	direction := r.IntN(2) == 0
	for a := uint64(1); a <= uint64(n); a++ {
		for b := uint64(1); b <= uint64(n); b++ {
			if a == b {
				continue
			}
			var cut bool
			switch f.kind {
			case faultIsolate:
				cut = a == f.node || b == f.node
			case faultSplit:
				cut = sides[a] != sides[b]
			case faultOneWay:
				cut = direction && a == f.node || !direction && b == f.node
			case faultPartial, faultClog:
				cut = r.IntN(4) == 0
			}
			if cut {
				hit = append(hit, [2]uint64{a, b})
			}
		}
	}
	if f.kind == faultClog {
		for _, l := range hit {
			w.net.clog[l[0]][l[1]] = max(w.net.clog[l[0]][l[1]], w.now+int64(f.lasts))
		}
		return
	}
	for _, l := range hit {
		w.net.cut[l[0]][l[1]]++
	}
	w.after(f.lasts, func() {
		if w.healed {
			return
		}
		for _, l := range hit {
			w.net.cut[l[0]][l[1]]--
		}
	})
}
