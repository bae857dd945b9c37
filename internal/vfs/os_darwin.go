package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData and syncFull are the same here: File.Sync of the Go library is fcntl(F_FULLFSYNC) on
// macOS, and nothing weaker reaches the medium.
func syncData(f *os.File) error { return f.Sync() }

func syncFull(f *os.File) error { return f.Sync() }

// preallocate asks for room behind the end (F_PREALLOCATE), then moves the end. A volume that
// knows no such call gets zeros written.
func preallocate(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if size <= info.Size() {
		return nil
	}
	store := unix.Fstore_t{
		Flags:   unix.F_ALLOCATEALL,
		Posmode: unix.F_PEOFPOSMODE,
		Length:  size - info.Size(),
	}
	err = unix.FcntlFstore(f.Fd(), unix.F_PREALLOCATE, &store)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EINVAL) {
		return preallocateByWriting(f, size)
	}
	if err != nil {
		return &os.PathError{Op: "fcntl F_PREALLOCATE", Path: f.Name(), Err: err}
	}
	return f.Truncate(size)
}
