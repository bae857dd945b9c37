package vfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Mem is a file system in memory that knows what a crash may leave behind.
//
// Each file keeps its durable bytes apart from the ordered operations since its last sync, each
// directory its durable names apart from the ordered creates, removes and renames since its last
// SyncDir. Only a sync of the very file or directory moves them over; in particular a synced file
// in a directory that is not synced is gone after a crash. CrashImages builds what may be left,
// Record keeps a workload to build the images of each of its moments, and Inject makes live
// operations fail or lie.
//
// Names are rooted: "a/b" and "/a/b" are the same file. All methods may be called concurrently; one
// operation runs at a time.
type Mem struct {
	mu sync.Mutex
	// disk, faults, locks, recording, limit and epoch are guarded by mu.
	disk      *disk
	faults    []*liveFault
	locks     map[string]*memLock
	recording *Recording
	// limit is the room for file sizes in bytes; zero is without limit.
	limit int64
	// epoch counts the kills. Handles and locks of an earlier epoch are dead.
	epoch uint64
	// open counts the files and locks that are open in this epoch.
	open int
}

var _ FS = (*Mem)(nil)

// NewMem returns an empty file system.
func NewMem() *Mem { return newMem(newDisk()) }

func newMem(d *disk) *Mem { return &Mem{disk: d, locks: map[string]*memLock{}} }

// OpenFile opens a regular file; a new one has a name that is not durable until SyncDir.
func (m *Mem) OpenFile(name string, flag int) (File, error) {
	if err := checkOpenFlags(name, flag); err != nil {
		return nil, err
	}
	if err := m.fault(&Op{Kind: OpOpen, Name: clean(name)}).err; err != nil {
		return nil, pathError("open", name, err)
	}
	m.mu.Lock()
	n, err := m.lookupLocked(name)
	if err == nil {
		defer m.mu.Unlock()
		if n.isDir {
			return nil, pathError("open", name, errors.New("is a directory"))
		}
		if flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0 {
			return nil, pathError("open", name, fs.ErrExist)
		}
		return m.handleLocked(n, name, flag), nil
	}
	m.mu.Unlock()
	if flag&os.O_CREATE == 0 || !errors.Is(err, fs.ErrNotExist) {
		return nil, pathError("open", name, err)
	}
	if err := m.fault(&Op{Kind: OpCreate, Name: clean(name)}).err; err != nil {
		return nil, pathError("create", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err = m.createLocked(name)
	if err != nil {
		return nil, pathError("create", name, err)
	}
	return m.handleLocked(n, name, flag), nil
}

// createLocked makes an empty file unless somebody else made it meanwhile.
func (m *Mem) createLocked(name string) (*inode, error) {
	parent, base, err := m.parentLocked(name)
	if err != nil {
		return nil, err
	}
	if id, ok := parent.live.names[base]; ok {
		return m.disk.inodes[id], nil
	}
	id := m.disk.nextID
	m.applyLocked(&Op{Kind: OpCreate, Name: clean(name), inode: id, dir: parent.id, base: base})
	return m.disk.inodes[id], nil
}

// Remove removes a file or an empty directory. Open handles of the file stay usable.
func (m *Mem) Remove(name string) error {
	if err := m.fault(&Op{Kind: OpRemove, Name: clean(name)}).err; err != nil {
		return pathError("remove", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookupLocked(name)
	if err != nil {
		return pathError("remove", name, err)
	}
	if n.isDir && (len(n.live.names) > 0 || n.id == rootID) {
		return pathError("remove", name, errors.New("directory is not empty"))
	}
	parent, base, err := m.parentLocked(name)
	if err != nil {
		return pathError("remove", name, err)
	}
	m.applyLocked(&Op{Kind: OpRemove, Name: clean(name), inode: n.id, dir: parent.id, base: base})
	return nil
}

// Rename moves a file over newName in one step, which a crash keeps or loses as a whole.
func (m *Mem) Rename(oldName, newName string) error {
	op := &Op{Kind: OpRename, Name: clean(oldName), NewName: clean(newName)}
	if err := m.fault(op).err; err != nil {
		return pathError("rename", oldName, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookupLocked(oldName)
	if err != nil {
		return pathError("rename", oldName, err)
	}
	parent, base, err := m.parentLocked(oldName)
	if err != nil {
		return pathError("rename", oldName, err)
	}
	newParent, newBase, err := m.parentLocked(newName)
	if err != nil {
		return pathError("rename", newName, err)
	}
	if target := m.disk.inodes[newParent.live.names[newBase]]; target != nil {
		if target == n {
			return nil
		}
		if target.isDir || n.isDir {
			return pathError("rename", newName, fs.ErrExist)
		}
	}
	op.inode, op.dir, op.newDir, op.base, op.newBase = n.id, parent.id, newParent.id, base, newBase
	m.applyLocked(op)
	return nil
}

// List returns the names in a directory, sorted.
func (m *Mem) List(dir string) ([]string, error) {
	if err := m.fault(&Op{Kind: OpList, Name: clean(dir)}).err; err != nil {
		return nil, pathError("list", dir, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookupLocked(dir)
	if err != nil {
		return nil, pathError("list", dir, err)
	}
	if !n.isDir {
		return nil, pathError("list", dir, errNotDir)
	}
	names := slices.AppendSeq(make([]string, 0, len(n.live.names)), maps.Keys(n.live.names))
	slices.Sort(names)
	return names, nil
}

// MkdirAll makes a directory and its missing parents, durable at once.
func (m *Mem) MkdirAll(dir string) error {
	if err := m.fault(&Op{Kind: OpMkdir, Name: clean(dir)}).err; err != nil {
		return pathError("mkdir", dir, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, at := m.disk.inodes[rootID], ""
	for _, part := range split(dir) {
		at = filepath.Join(at, part)
		if !n.isDir {
			return pathError("mkdir", dir, errNotDir)
		}
		if _, ok := n.live.names[part]; !ok {
			id := m.disk.nextID
			m.applyLocked(&Op{Kind: OpMkdir, Name: at, inode: id, dir: n.id, base: part})
		}
		n = m.disk.inodes[n.live.names[part]]
	}
	if !n.isDir {
		return pathError("mkdir", dir, errNotDir)
	}
	return nil
}

// SyncDir makes the names in a directory durable; the bytes of its files it leaves alone.
func (m *Mem) SyncDir(dir string) error {
	out := m.fault(&Op{Kind: OpSyncDir, Name: clean(dir)})
	if out.err != nil {
		return pathError("sync", dir, out.err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookupLocked(dir)
	if err != nil {
		return pathError("sync", dir, err)
	}
	if !n.isDir {
		return pathError("sync", dir, errNotDir)
	}
	if !out.lost {
		m.applyLocked(&Op{Kind: OpSyncDir, Name: clean(dir), inode: n.id})
	}
	return nil
}

// Lock takes an exclusive lock on a file, creating it if it is missing.
func (m *Mem) Lock(name string) (io.Closer, error) {
	if err := m.fault(&Op{Kind: OpLock, Name: clean(name)}).err; err != nil {
		return nil, pathError("lock", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	name = clean(name)
	if m.locks[name] != nil {
		return nil, pathError("lock", name, ErrLocked)
	}
	if _, err := m.createLocked(name); err != nil {
		return nil, pathError("lock", name, err)
	}
	lock := &memLock{m: m, name: name, epoch: m.epoch}
	m.locks[name] = lock
	m.open++
	return lock, nil
}

// applyLocked performs an operation and notes it in the recording, if there is one.
func (m *Mem) applyLocked(op *Op) {
	m.disk.apply(op)
	if m.recording != nil {
		m.recording.ops = append(m.recording.ops, op)
	}
}

func (m *Mem) handleLocked(n *inode, name string, flag int) *memFile {
	n.handles++
	m.open++
	return &memFile{m: m, n: n, name: clean(name), writable: flag&os.O_RDWR != 0, epoch: m.epoch}
}

func (m *Mem) lookupLocked(name string) (*inode, error) {
	n := m.disk.inodes[rootID]
	for _, part := range split(name) {
		if !n.isDir {
			return nil, errNotDir
		}
		id, ok := n.live.names[part]
		if !ok {
			return nil, fs.ErrNotExist
		}
		n = m.disk.inodes[id]
	}
	return n, nil
}

// parentLocked returns the directory that a name is in, and the name there.
func (m *Mem) parentLocked(name string) (*inode, string, error) {
	parts := split(name)
	if len(parts) == 0 {
		return nil, "", fs.ErrInvalid
	}
	n, err := m.lookupLocked(filepath.Dir(clean(name)))
	if err != nil {
		return nil, "", err
	}
	if !n.isDir {
		return nil, "", errNotDir
	}
	return n, parts[len(parts)-1], nil
}

var errNotDir = errors.New("not a directory")

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// clean gives every spelling of a path the same form, with slashes and without a leading one.
func clean(name string) string {
	return strings.TrimPrefix(filepath.ToSlash(filepath.Clean(name)), "/")
}

func split(name string) []string {
	name = clean(name)
	if name == "" || name == "." {
		return nil
	}
	return strings.Split(name, "/")
}
