package vfs

import (
	"errors"
	"io"
	"os"
)

// writeBlockBytes is the smallest unit in which file systems give out room.
const writeBlockBytes = 4096

// preallocateByWriting takes room for the first size bytes where the host has no call for it.
//
// Behind the end of the file it writes zeros. Before the end a block that reads zero may be a
// hole, so it is written again as zeros; any other block has its room already and is left alone.
func preallocateByWriting(f *os.File, size int64) error {
	var buf [16 * writeBlockBytes]byte
	var zeros [writeBlockBytes]byte
	for off := int64(0); off < size; {
		chunk := buf[:min(int64(len(buf)), size-off)]
		n, err := f.ReadAt(chunk, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		clear(chunk[n:])
		for len(chunk) > 0 {
			block := chunk[:min(writeBlockBytes, len(chunk))]
			if string(block) == string(zeros[:len(block)]) {
				if _, err := f.WriteAt(block, off); err != nil {
					return err
				}
			}
			chunk = chunk[len(block):]
			off += int64(len(block))
		}
	}
	return nil
}
