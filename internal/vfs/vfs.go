// Package vfs is the small file system that the write-ahead log is written against.
//
// It exists so that storage code can be tested against what a disk may do: [OS] is the real
// thing, and [Mem] keeps every operation since the last sync apart, builds the images that a
// crash can leave behind and injects faults. Nothing here keeps a cursor: the caller owns
// offsets.
package vfs

import "io"

// FS is a file system. All methods may be called from several goroutines at once. Names use
// the slash of path/filepath on the host.
//
// A name becomes durable when SyncDir on its directory returns, the bytes of a file when Sync or
// SyncData on the file returns; nothing else promises anything about a crash.
type FS interface {
	// OpenFile opens a regular file. flag is a union of os.O_RDONLY, os.O_RDWR, os.O_CREATE and
	// os.O_EXCL; no other flag is allowed. A missing file gives an error that matches fs.ErrNotExist.
	OpenFile(name string, flag int) (File, error)
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Rename moves a file over newName in one step: after a crash newName is the old or the new file.
	Rename(oldName, newName string) error
	// List returns the names (not paths) in a directory, sorted.
	List(dir string) ([]string, error)
	// MkdirAll makes a directory and its missing parents, and makes their names durable.
	MkdirAll(dir string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Lock takes an exclusive advisory lock on a file, creating it if it is missing. It never waits:
	// a lock held by anybody else gives an error that matches ErrLocked. Close of the result
	// releases it; so does the end of the process.
	Lock(name string) (io.Closer, error)
}

// File is an open file. ReadAt, WriteAt and WriteVectorAt may run beside each other on disjoint
// ranges; at most one goroutine calls the other methods.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// WriteVectorAt does what WriteAt does with the parts put together, without putting them
	// together first. A part may be empty. It returns how many bytes were written in all.
	WriteVectorAt(parts [][]byte, off int64) (n int, err error)
	// Truncate sets the size; a longer file reads zero behind its old end.
	Truncate(size int64) error
	// Preallocate makes sure that the disk has room for the first size bytes and that the file is
	// at least that long; new bytes read zero. An error that matches ErrNoSpace leaves the file usable.
	Preallocate(size int64) error
	// SyncData makes the bytes and the size durable (fdatasync). After an error nothing is known
	// about the bytes written since the last success, and calling it again proves nothing.
	SyncData() error
	// Sync is SyncData with all metadata (fsync).
	Sync() error
	// Size returns the present size in bytes.
	Size() (int64, error)
}
