package vfs

import (
	"maps"
	"slices"
)

// rootID is the inode of the root directory.
const rootID = 1

// graveyardMax bounds how many removed files are remembered as a source of stale bytes.
const graveyardMax = 4

// disk is the model below Mem: what is durable, what the running system sees, and the ordered
// operations between the two. It knows no paths, handles, locks or faults.
//
// Invariant: the live state is the durable state with all of pending applied in order, but for
// the bytes that a lying sync dropped (opDrop), which stay visible until the crash.
type disk struct {
	inodes map[uint64]*inode
	nextID uint64
	seq    uint64
	// pending holds the data and entry operations since the last sync that covered them, in order.
	pending []*Op
	// graveyard is the bytes of the last removed files, the oldest first.
	graveyard []content
}

// inode is a file or a directory.
type inode struct {
	id            uint64
	isDir         bool
	durable, live bytesAndNames
	// handles counts the open files of a Mem. entryRefs counts pending entry operations that may
	// still name this inode, and links the names it has: together they say when it is unreachable.
	handles, entryRefs int
}

// bytesAndNames is one state of an inode: a file has data, a directory has names.
type bytesAndNames struct {
	data  content
	names map[string]uint64
	links int
}

func (b *bytesAndNames) clone() bytesAndNames {
	return bytesAndNames{data: b.data.clone(), names: maps.Clone(b.names), links: b.links}
}

func newDisk() *disk {
	root := newInode(rootID, true)
	root.durable.links, root.live.links = 1, 1
	return &disk{inodes: map[uint64]*inode{rootID: root}, nextID: rootID + 1}
}

func newInode(id uint64, isDir bool) *inode {
	n := &inode{id: id, isDir: isDir}
	if isDir {
		n.durable.names, n.live.names = map[string]uint64{}, map[string]uint64{}
	}
	return n
}

// apply performs an operation. The caller has checked that it is possible. An operation on an inode
// that nothing reaches any more is ignored.
func (d *disk) apply(op *Op) {
	d.seq++
	op.seq = d.seq
	if op.Kind&(OpCreate|OpMkdir) != 0 {
		d.inodes[op.inode] = newInode(op.inode, op.Kind == OpMkdir)
		d.nextID = max(d.nextID, op.inode+1)
	}
	if d.inodes[op.inode] == nil {
		return
	}
	if op.Kind == OpRemove && !d.inodes[op.inode].isDir {
		d.bury(&d.inodes[op.inode].live.data)
	}
	if op.Kind&(opData|opEntry|OpMkdir) != 0 {
		change(d.inodes, op, liveState)
	}
	switch op.Kind {
	case OpMkdir:
		change(d.inodes, op, durableState)
	case OpSyncData, OpSync:
		d.drain(func(p *Op) bool { return p.Kind&opData != 0 && p.inode == op.inode })
	case OpSyncDir:
		d.syncDir(op.inode)
	case opDrop:
		d.forget(op.inode)
	default:
		d.pend(op)
	}
}

func (d *disk) pend(op *Op) {
	n := d.inodes[op.inode]
	if op.Kind&opEntry != 0 {
		n.entryRefs++
	}
	if n.reachable() {
		d.pending = append(d.pending, op)
	}
}

// reachable says whether any crash from now on can leave the inode under a name.
func (n *inode) reachable() bool {
	return n.live.links > 0 || n.durable.links > 0 || n.entryRefs > 0
}

func liveState(n *inode) *bytesAndNames    { return &n.live }
func durableState(n *inode) *bytesAndNames { return &n.durable }

// change applies a data or entry operation to one of the two states. An entry operation may find
// its predecessors missing, because a crash may lose them: it then does what is left to do.
func change(inodes map[uint64]*inode, op *Op, state func(*inode) *bytesAndNames) {
	n := inodes[op.inode]
	if n == nil {
		return
	}
	data := &state(n).data
	switch op.Kind {
	case OpWrite:
		data.writeAt(op.Data, op.Offset)
	case OpTruncate:
		data.truncate(op.Size)
	case OpPreallocate:
		data.extend(op.Size)
	case OpCreate, OpMkdir:
		setName(inodes, op.dir, op.base, op.inode, state)
	case OpRemove:
		dropName(inodes, op.dir, op.base, op.inode, state)
	case OpRename:
		dropName(inodes, op.dir, op.base, op.inode, state)
		setName(inodes, op.newDir, op.newBase, op.inode, state)
	}
}

func setName(
	inodes map[uint64]*inode, dir uint64, base string, id uint64,
	state func(*inode) *bytesAndNames,
) {
	parent := inodes[dir]
	if parent == nil {
		return
	}
	names := state(parent).names
	if old := inodes[names[base]]; old != nil {
		state(old).links--
	}
	names[base] = id
	state(inodes[id]).links++
}

// dropName removes a name if it still leads to the inode.
func dropName(
	inodes map[uint64]*inode, dir uint64, base string, id uint64,
	state func(*inode) *bytesAndNames,
) {
	parent := inodes[dir]
	if parent == nil || state(parent).names[base] != id {
		return
	}
	delete(state(parent).names, base)
	state(inodes[id]).links--
}

// drain makes the chosen pending operations durable, in order.
func (d *disk) drain(chosen func(*Op) bool) {
	d.pending = slices.DeleteFunc(d.pending, func(op *Op) bool {
		if !chosen(op) {
			return false
		}
		change(d.inodes, op, durableState)
		if op.Kind&opEntry != 0 {
			d.inodes[op.inode].entryRefs--
		}
		return true
	})
}

// syncDir drains the names of a directory. A rename from another directory is one operation, so it
// takes along what is older in that directory; otherwise an old name could come back later.
func (d *disk) syncDir(dir uint64) {
	const all = ^uint64(0)
	upTo := map[uint64]uint64{dir: all}
	chosen := map[*Op]bool{}
	for _, op := range slices.Backward(d.pending) {
		if op.Kind&opEntry == 0 || op.seq > max(upTo[op.dir], upTo[op.newDir]) {
			continue
		}
		chosen[op] = true
		upTo[op.dir] = max(upTo[op.dir], op.seq)
		if op.Kind == OpRename {
			upTo[op.newDir] = max(upTo[op.newDir], op.seq)
		}
	}
	d.drain(func(op *Op) bool { return chosen[op] })
	d.prune()
}

// forget drops the pending bytes of a file without making them durable.
func (d *disk) forget(id uint64) {
	d.pending = slices.DeleteFunc(d.pending, func(op *Op) bool {
		return op.Kind&opData != 0 && op.inode == id
	})
}

// prune drops what no crash can leave any more: the pending bytes of inodes that nothing reaches,
// and the inodes themselves unless a handle is open.
func (d *disk) prune() {
	d.pending = slices.DeleteFunc(d.pending, func(op *Op) bool {
		return !d.inodes[op.inode].reachable()
	})
	maps.DeleteFunc(d.inodes, func(_ uint64, n *inode) bool {
		return n.handles == 0 && !n.reachable()
	})
}

func (d *disk) bury(data *content) {
	if len(d.graveyard) == graveyardMax {
		d.graveyard = slices.Delete(d.graveyard, 0, 1)
	}
	d.graveyard = append(d.graveyard, data.clone())
}

// clone copies the whole model, without handles. The copy shares bytes until one side writes.
func (d *disk) clone() *disk {
	c := &disk{
		inodes: make(map[uint64]*inode, len(d.inodes)), nextID: d.nextID, seq: d.seq,
		pending: slices.Clone(d.pending), graveyard: slices.Clone(d.graveyard),
	}
	for id, n := range d.inodes {
		c.inodes[id] = &inode{
			id: id, isDir: n.isDir, entryRefs: n.entryRefs,
			durable: n.durable.clone(), live: n.live.clone(),
		}
	}
	return c
}

// crash returns the disk after a crash that left the durable state plus the given operations.
func (d *disk) crash(kept []*Op) *disk {
	c := &disk{
		inodes: make(map[uint64]*inode, len(d.inodes)), nextID: d.nextID, seq: d.seq,
		graveyard: slices.Clone(d.graveyard),
	}
	for id, n := range d.inodes {
		c.inodes[id] = &inode{id: id, isDir: n.isDir, durable: n.durable.clone()}
	}
	for _, op := range kept {
		change(c.inodes, op, durableState)
	}
	for _, n := range c.inodes {
		n.live = n.durable.clone()
	}
	c.prune()
	return c
}

// fingerprint hashes the live tree: paths, sizes and bytes.
func (d *disk) fingerprint(id uint64) uint64 {
	n := d.inodes[id]
	if !n.isDir {
		return n.live.data.fingerprint()
	}
	sum := uint64(fingerprintSeed)
	for _, name := range slices.Sorted(maps.Keys(n.live.names)) {
		sum = mix(mix(sum, hashBytes([]byte(name))), d.fingerprint(n.live.names[name]))
	}
	return sum
}
