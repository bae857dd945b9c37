//go:build darwin || linux

package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// vectorMax is how many parts go into one call: for more, unix.Pwritev allocates.
const vectorMax = 8

// writeVector writes parts one behind the other, with as many calls as the host needs.
func writeVector(f *os.File, parts [][]byte, off int64) (n int, _ error) {
	var batch [vectorMax][]byte
	for skip := 0; ; { // bytes of parts[0] that are written
		for len(parts) > 0 && skip >= len(parts[0]) {
			skip -= len(parts[0])
			parts = parts[1:]
		}
		if len(parts) == 0 {
			return n, nil
		}
		count := copy(batch[:], parts)
		batch[0] = batch[0][skip:]
		wrote, err := unix.Pwritev(int(f.Fd()), batch[:count], off+int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EBADF): // Fd of a closed file is -1.
			err = fs.ErrClosed
		case err == nil && wrote == 0:
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return n, &fs.PathError{Op: "pwritev", Path: f.Name(), Err: err}
		}
		n += wrote
		skip += wrote
	}
}
