package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// OS is the file system of the host. The zero value is ready for use.
//
// It is honest about durability on every system it builds for: SyncData is fdatasync on Linux,
// F_FULLFSYNC on macOS (plain fsync there stops at the cache of the drive), FlushFileBuffers on
// Windows and fsync elsewhere.
type OS struct{}

var _ FS = OS{}

// openFlags are the flags that FS.OpenFile allows.
const openFlags = os.O_RDONLY | os.O_RDWR | os.O_CREATE | os.O_EXCL

func checkOpenFlags(name string, flag int) error {
	if flag&^openFlags != 0 {
		err := fmt.Errorf("flag %#x: %w", flag, fs.ErrInvalid)
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return nil
}

// OpenFile opens a regular file; new files get mode 0600.
func (OS) OpenFile(name string, flag int) (File, error) {
	if err := checkOpenFlags(name, flag); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, mapError(err)
	}
	return &osFile{f: f}, nil
}

// Remove removes a file or an empty directory.
func (OS) Remove(name string) error { return mapError(os.Remove(name)) }

// Rename moves a file over newName in one step.
func (OS) Rename(oldName, newName string) error { return mapError(rename(oldName, newName)) }

// List returns the names in a directory, sorted.
func (OS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, nil
}

// MkdirAll makes a directory and its missing parents, each durable before the next is made.
//
// The deepest directory that exists already may have been left by a process that died between
// making it and syncing its parent, so its name is made durable as well; there a parent that may
// not be read is accepted, because then this process cannot have made it.
func (o OS) MkdirAll(dir string) error {
	dir = filepath.Clean(dir)
	info, err := os.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: errors.New("not a directory")}
		}
		if err := o.SyncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent == dir {
		return err
	}
	if err := o.MkdirAll(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return mapError(err)
	}
	return o.SyncDir(parent)
}

// SyncDir makes the names in a directory durable.
func (OS) SyncDir(dir string) error { return mapError(syncDir(dir)) }

// Lock takes an exclusive advisory lock (flock, or LockFileEx on Windows) that belongs to the
// returned handle, so it also excludes a second Lock in the same process.
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, mapError(err)
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "lock", Path: name, Err: err}, f.Close())
	}
	return f, nil
}

// osFile is a file of the host.
type osFile struct{ f *os.File }

var _ File = (*osFile)(nil)

func (o *osFile) ReadAt(p []byte, off int64) (int, error) { return o.f.ReadAt(p, off) }

func (o *osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := o.f.WriteAt(p, off)
	return n, mapError(err)
}

func (o *osFile) WriteVectorAt(parts [][]byte, off int64) (int, error) {
	n, err := writeVector(o.f, parts, off)
	return n, mapError(err)
}

func (o *osFile) Close() error { return o.f.Close() }

func (o *osFile) Truncate(size int64) error { return mapError(o.f.Truncate(size)) }

func (o *osFile) Preallocate(size int64) error { return mapError(preallocate(o.f, size)) }

func (o *osFile) SyncData() error { return mapError(syncData(o.f)) }

func (o *osFile) Sync() error { return mapError(syncFull(o.f)) }

func (o *osFile) Size() (int64, error) {
	info, err := o.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
