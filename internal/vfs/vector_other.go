//go:build !darwin && !linux

package vfs

import "os"

// writeVector writes the parts in turn. Until a sync a crash may leave any of their sectors in any
// case, so this promises no less than one write does.
func writeVector(f *os.File, parts [][]byte, off int64) (n int, _ error) {
	for _, part := range parts {
		wrote, err := f.WriteAt(part, off+int64(n))
		n += wrote
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
