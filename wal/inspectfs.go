package wal

import (
	"errors"
	"io"
	"os"

	"github.com/connectraft/connect/internal/vfs"
)

// readOnlyFS lets nothing through that could change a file system: every file is opened for
// reading, whatever was asked for, and everything else is refused.
type readOnlyFS struct{ vfs.FS }

var _ vfs.FS = readOnlyFS{}

var errReadOnly = errors.New("wal: inspection changes nothing")

func (r readOnlyFS) OpenFile(name string, flag int) (vfs.File, error) {
	if flag&(os.O_CREATE|os.O_EXCL) != 0 {
		return nil, errReadOnly
	}
	f, err := r.FS.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return readOnlyFile{f}, nil
}

func (readOnlyFS) Remove(string) error            { return errReadOnly }
func (readOnlyFS) Rename(string, string) error    { return errReadOnly }
func (readOnlyFS) MkdirAll(string) error          { return errReadOnly }
func (readOnlyFS) SyncDir(string) error           { return errReadOnly }
func (readOnlyFS) Lock(string) (io.Closer, error) { return nil, errReadOnly }

type readOnlyFile struct{ vfs.File }

func (readOnlyFile) WriteAt([]byte, int64) (int, error) { return 0, errReadOnly }

func (readOnlyFile) WriteVectorAt([][]byte, int64) (int, error) { return 0, errReadOnly }

func (readOnlyFile) Truncate(int64) error    { return errReadOnly }
func (readOnlyFile) Preallocate(int64) error { return errReadOnly }
func (readOnlyFile) SyncData() error         { return errReadOnly }
func (readOnlyFile) Sync() error             { return errReadOnly }
