package vfs

import (
	"io"
	"io/fs"
	"slices"
)

// memFile is an open file of a Mem.
type memFile struct {
	m        *Mem
	n        *inode
	name     string
	writable bool
	epoch    uint64
	closed   bool
}

var _ File = (*memFile)(nil)

// checkLocked says why the handle may not be used.
func (f *memFile) checkLocked(kind OpKind) error {
	if f.closed || f.epoch != f.m.epoch {
		return pathError(kind.String(), f.name, fs.ErrClosed)
	}
	if kind&opData != 0 && !f.writable {
		return pathError(kind.String(), f.name, fs.ErrPermission)
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, pathError("read", f.name, fs.ErrInvalid)
	}
	out := f.m.fault(&Op{Kind: OpRead, Name: f.name, Offset: off, Size: int64(len(p))})
	if out.err != nil {
		return 0, pathError("read", f.name, out.err)
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked(OpRead); err != nil {
		return 0, err
	}
	n := f.n.live.data.readAt(p, off)
	if out.flip && n > 0 {
		bit := out.bit % (n * 8)
		p[bit/8] ^= 1 << (bit % 8)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteVectorAt is one operation: faults hit it as a whole, and a crash may leave any part of it.
func (f *memFile) WriteVectorAt(parts [][]byte, off int64) (int, error) {
	return f.WriteAt(slices.Concat(parts...), off)
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, pathError("write", f.name, fs.ErrInvalid)
	}
	op := &Op{Kind: OpWrite, Name: f.name, Offset: off, Data: p}
	out := f.m.fault(op)
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked(OpWrite); err != nil {
		return 0, err
	}
	n, err := len(p), out.err
	if err != nil {
		n = min(out.short, len(p))
	} else if room := f.m.roomLocked(f.n, off); int64(n) > room {
		n, err = int(max(room, 0)), ErrNoSpace
	}
	if n > 0 {
		f.writeLocked(append([]byte(nil), p[:n]...), off, out.misdirect)
	}
	if err != nil {
		return n, pathError("write", f.name, err)
	}
	return n, nil
}

// writeLocked records a write, at the place that a fault has chosen if there is one.
func (f *memFile) writeLocked(data []byte, off int64, misdirect *Misdirect) {
	op := &Op{Kind: OpWrite, Name: f.name, Offset: off, Data: data, inode: f.n.id}
	if misdirect != nil {
		op.Offset += misdirect.Shift
		if misdirect.Name != "" {
			n, err := f.m.lookupLocked(misdirect.Name)
			if err != nil || n.isDir {
				return // The write is lost: the place it went to is not in this file system.
			}
			op.Name, op.inode = clean(misdirect.Name), n.id
		}
		if op.Offset < 0 {
			return
		}
	}
	f.m.applyLocked(op)
}

func (f *memFile) Truncate(size int64) error {
	return f.resize(&Op{Kind: OpTruncate, Name: f.name, Size: size, inode: f.n.id})
}

func (f *memFile) Preallocate(size int64) error {
	return f.resize(&Op{Kind: OpPreallocate, Name: f.name, Size: size, inode: f.n.id})
}

func (f *memFile) resize(op *Op) error {
	if op.Size < 0 {
		return pathError(op.Kind.String(), f.name, fs.ErrInvalid)
	}
	if err := f.m.fault(op).err; err != nil {
		return pathError(op.Kind.String(), f.name, err)
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked(op.Kind); err != nil {
		return err
	}
	if op.Kind == OpPreallocate && f.m.roomLocked(f.n, 0) < op.Size {
		return pathError("preallocate", f.name, ErrNoSpace)
	}
	f.m.applyLocked(op)
	return nil
}

func (f *memFile) SyncData() error { return f.sync(OpSyncData) }

func (f *memFile) Sync() error { return f.sync(OpSync) }

func (f *memFile) sync(kind OpKind) error {
	out := f.m.fault(&Op{Kind: kind, Name: f.name})
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked(kind); err != nil {
		return err
	}
	if out.drop {
		f.m.applyLocked(&Op{Kind: opDrop, Name: f.name, inode: f.n.id})
	}
	if out.err != nil {
		return pathError(kind.String(), f.name, out.err)
	}
	if !out.lost {
		f.m.applyLocked(&Op{Kind: kind, Name: f.name, inode: f.n.id})
	}
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked(OpRead); err != nil {
		return 0, err
	}
	return f.n.live.data.size, nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked(OpOpen); err != nil {
		return err
	}
	f.closed = true
	f.m.open--
	f.n.handles--
	if f.n.live.links == 0 {
		f.m.disk.prune()
	}
	return nil
}

// memLock is a held lock of a Mem.
type memLock struct {
	m     *Mem
	name  string
	epoch uint64
}

// Close releases the lock. A second Close, or one after a kill, gives fs.ErrClosed.
func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.m.locks[l.name] != l || l.epoch != l.m.epoch {
		return pathError("unlock", l.name, fs.ErrClosed)
	}
	delete(l.m.locks, l.name)
	l.m.open--
	return nil
}
