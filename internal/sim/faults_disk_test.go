package sim_test

import (
	"errors"
	"math/rand/v2"
	"os"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

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
		w.after(f.lasts, h.giveRoom)
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

// giveRoom ends that the host's disk is full, also of its own one while it has that of another.
func (h *host) giveRoom() {
	h.disk.SetLimit(0)
	if h.foreign {
		h.own.SetLimit(0)
	}
}

// swap gives a node that is down the disk of a node of another cluster. It must refuse it, and
// gets its own back.
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
	if (h.w.plan.config.registers || !h.isFirst()) && h.isAnywhere() {
		h.lost = true // AdmitPeer refuses it until it is replaced
		h.note("lost")
		return
	}
	if h.wouldBeginAnew() {
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

// rot damages the newest snapshot of each group that has an older one that the log goes on behind.
// The only one that does is another matter: without it a group does not start, and says so.
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
