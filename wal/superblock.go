package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/connectraft/connect/internal/vfs"
)

// The superblock says how far the log was durable at some moment, so that a log that lost its end
// does not look fresh. There are two files, written in turn, so a torn write leaves the older one;
// the valid one with the higher counter counts. Little endian:
//
//	  0  [8]  "connsup\n"
//	  8  u32  format version, 1           12  u32  bytes of all, a multiple of 8
//	 16  u64  counter
//	 24  u64  node id                     32  u64  incarnation
//	 40  u64  segment                     48  u64  durable offset in it
//	 56  u64  sequence of the next frame
//	 64  u32  flags, 1 = clean            68  u32  groups
//	 72  u8   bytes of cluster id         73  [63] cluster id
//	136  groups, 64 bytes each: id, sequence, term, vote, commit, last index, last term, floor + 1
//	     of its fence or 0
//	     then u32 zero, u32 CRC32C of everything before
//
// Everything that it speaks of was durable before it was written. Clean means that nothing was
// written behind the durable offset.
const (
	superblockMagic      = "connsup\n"
	superblockHeadBytes  = 136
	superblockGroupBytes = 64
	superblockBytesMax   = 1 << 30
	// superblockRoom is allocated from the start; it grows before a group is taken in that needs more.
	superblockRoom  = 2 << 10
	superblockClean = 1
)

var superblockNames = [2]string{"superblock.a", "superblock.b"}

type superblock struct {
	counter  uint64
	identity Identity
	segment  uint64
	durable  int64
	sequence uint64
	clean    bool
	groups   []superblockGroup
}

// superblockGroup is the floor of one group.
type superblockGroup struct {
	id, sequence   uint64
	state          State
	last, lastTerm uint64
	fence          uint64 // floor of its fence + 1, 0 without one
}

// encode returns the bytes of the superblock.
func (s *superblock) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, superblockHeadBytes, superblockHeadBytes+len(s.groups)*superblockGroupBytes+8)
	copy(b, superblockMagic)
	le.PutUint32(b[8:], formatVersion)
	for i, v := range [...]uint64{s.counter, s.identity.NodeID, s.identity.Incarnation, s.segment,
		uint64(s.durable), s.sequence} {
		le.PutUint64(b[16+8*i:], v)
	}
	if s.clean {
		le.PutUint32(b[64:], superblockClean)
	}
	le.PutUint32(b[68:], uint32(len(s.groups)))
	b[72] = byte(len(s.identity.ClusterID))
	copy(b[73:], s.identity.ClusterID)
	for _, g := range s.groups {
		for _, v := range [...]uint64{g.id, g.sequence, g.state.Term, g.state.Vote,
			g.state.Commit, g.last, g.lastTerm, g.fence} {
			b = le.AppendUint64(b, v)
		}
	}
	b = le.AppendUint32(b, 0)
	le.PutUint32(b[12:], uint32(len(b)+4))
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeSuperblock reports false for what is not a whole superblock.
func decodeSuperblock(b []byte) (*superblock, bool) {
	le := binary.LittleEndian
	if len(b) < superblockHeadBytes+8 || string(b[:8]) != superblockMagic ||
		le.Uint32(b[8:]) != formatVersion || b[72] > clusterIDBytesMax {
		return nil, false
	}
	size, count := int64(le.Uint32(b[12:])), int64(le.Uint32(b[68:]))
	if size > int64(len(b)) || size != superblockHeadBytes+count*superblockGroupBytes+8 ||
		crc32.Checksum(b[:size-4], castagnoli) != le.Uint32(b[size-4:]) {
		return nil, false
	}
	s := &superblock{
		counter: le.Uint64(b[16:]), segment: le.Uint64(b[40:]), durable: int64(le.Uint64(b[48:])),
		identity: Identity{ClusterID: string(b[73 : 73+int(b[72])]), NodeID: le.Uint64(b[24:]),
			Incarnation: le.Uint64(b[32:])},
		sequence: le.Uint64(b[56:]), clean: le.Uint32(b[64:])&superblockClean != 0,
	}
	for i := range count {
		var v [8]uint64
		for k := range v {
			v[k] = le.Uint64(b[superblockHeadBytes+i*superblockGroupBytes+int64(8*k):])
		}
		s.groups = append(s.groups, superblockGroup{id: v[0], sequence: v[1],
			state: State{Term: v[2], Vote: v[3], Commit: v[4]}, last: v[5], lastTerm: v[6],
			fence: v[7]})
	}
	return s, true
}

// checkSuperblockVersion returns an error for a superblock that is whole and of another version,
// nil for what is none.
func checkSuperblockVersion(b []byte) error {
	le := binary.LittleEndian
	if len(b) < superblockHeadBytes+8 || string(b[:8]) != superblockMagic {
		return nil
	}
	size := int64(le.Uint32(b[12:]))
	if size < superblockHeadBytes || size > int64(len(b)) ||
		crc32.Checksum(b[:size-4], castagnoli) != le.Uint32(b[size-4:]) {
		return nil
	}
	if v := le.Uint32(b[8:]); v != formatVersion {
		return fmt.Errorf("format version %d, this program reads %d", v, formatVersion)
	}
	return nil
}

// superState is what the log remembers of its superblocks.
type superState struct {
	// io serialises the writes of the appender and the worker; it is held across them.
	io    sync.Mutex
	files [2]vfs.File
	// slot is the file for the next write: the one that does not hold the newest superblock, whose
	// counter is newest.
	slot   int
	newest uint64
	// room is what both files have allocated.
	room int64

	// What follows belongs to the appender.

	counter uint64
	// listed are the groups that the superblock knows of; unlisted says that there are others.
	listed   map[uint64]bool
	unlisted bool
	// written is the moment of the last one that was asked for, and sequence the next frame then.
	written  time.Time
	sequence uint64
	offset   int64
	// rotated says that the segment has changed since.
	rotated bool
}

// open opens the files that exist and returns the newest valid superblock or nil.
func (st *superState) open(fs vfs.FS, dir string) (*superblock, error) {
	var newest *superblock
	for i, name := range superblockNames {
		f, err := fs.OpenFile(filepath.Join(dir, name), os.O_RDWR)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("wal: open superblock: %w", err)
		}
		st.files[i] = f
		s, err := readSuperblock(f)
		if err != nil {
			return nil, fmt.Errorf("wal: read %s: %w", name, err)
		}
		if s != nil && (newest == nil || s.counter > newest.counter) {
			newest, st.slot = s, 1-i
		}
	}
	if newest != nil {
		st.counter, st.newest = newest.counter, newest.counter
	}
	return newest, nil
}

// create makes the files that do not exist, durably, and room in both.
func (st *superState) create(fs vfs.FS, dir string) error {
	created := false
	for i, name := range superblockNames {
		if st.files[i] != nil {
			continue
		}
		f, err := fs.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE)
		if err != nil {
			return fmt.Errorf("wal: create superblock: %w", err)
		}
		st.files[i], created = f, true
	}
	if err := st.reserve(superblockRoom); err != nil {
		return err
	}
	if !created {
		return nil
	}
	if err := fs.SyncDir(dir); err != nil {
		return fmt.Errorf("wal: sync %s: %w", dir, err)
	}
	return nil
}

// reserve makes sure that both files have room for a superblock of so many bytes.
func (st *superState) reserve(bytes int64) error {
	if bytes <= st.room {
		return nil
	}
	st.io.Lock()
	defer st.io.Unlock()
	room := int64(superblockRoom)
	for room < bytes {
		room *= 2
	}
	for i, f := range st.files {
		size, err := f.Size()
		if err == nil && size < room {
			err = f.Preallocate(room)
		}
		if err != nil {
			return fmt.Errorf("wal: make room in %s: %w", superblockNames[i], err)
		}
	}
	st.room = room
	return nil
}

// reserveSuperblock makes room for the new groups of this round, before anything is written.
func (l *Log) reserveSuperblock() error {
	groups := len(l.super.listed)
	for i := range l.staged {
		if !l.super.listed[l.staged[i].header.group] {
			groups++
		}
	}
	if groups == len(l.super.listed) {
		return nil
	}
	err := l.super.reserve(superblockHeadBytes + superblockGroupBytes*int64(groups) + 8)
	if err != nil {
		return l.spaceError(err)
	}
	return nil
}

// readSuperblock returns nil if the file has no valid one.
func readSuperblock(f vfs.File) (*superblock, error) {
	size, err := f.Size()
	if err != nil || size > superblockBytesMax {
		return nil, err
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && size > 0 {
		return nil, err
	}
	s, ok := decodeSuperblock(b)
	if ok {
		return s, nil
	}
	return nil, checkSuperblockVersion(b)
}

// write writes an encoded superblock over the older one, and syncs it. One that is older than what
// is there already does nothing.
func (st *superState) write(b []byte) error {
	st.io.Lock()
	defer st.io.Unlock()
	counter := binary.LittleEndian.Uint64(b[16:])
	if counter <= st.newest {
		return nil
	}
	f, name := st.files[st.slot], superblockNames[st.slot]
	if _, err := f.WriteAt(b, 0); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := f.SyncData(); err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	st.slot, st.newest = 1-st.slot, counter
	return nil
}

func (st *superState) close() error {
	var errs []error
	for i, f := range st.files {
		if f != nil {
			errs = append(errs, f.Close())
			st.files[i] = nil
		}
	}
	return errors.Join(errs...)
}

// nextSuperblock describes the log, of which everything is durable.
func (l *Log) nextSuperblock(clean bool) []byte {
	l.super.counter++
	l.super.written, l.super.sequence, l.super.offset = l.o.Now(), l.sequence, l.durable
	s := superblock{counter: l.super.counter, identity: l.identity, segment: l.active.id,
		durable: l.durable, sequence: l.sequence, clean: clean}
	l.super.listed, l.super.unlisted = make(map[uint64]bool), false
	for _, g := range l.sortedGroups() {
		if g.sequence == 0 {
			continue
		}
		l.super.listed[g.id] = true
		sg := superblockGroup{id: g.id, sequence: g.sequence, state: g.state, last: g.index.last,
			lastTerm: g.termAt(g.index.last)}
		if g.fenced {
			sg.fence = g.floor + 1
		}
		s.groups = append(s.groups, sg)
	}
	return s.encode()
}

// writeSuperblock writes one now; the worker does not run.
func (l *Log) writeSuperblock(clean bool) error {
	if err := l.super.write(l.nextSuperblock(clean)); err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	return nil
}
