//go:build darwin || linux

package vfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/connectraft/connect/internal/vfs"
)

// TestWriteVectorAtShort makes the host write less than it was asked to, by a part that reaches
// into memory that nobody may read.
func TestWriteVectorAtShort(t *testing.T) {
	page := os.Getpagesize()
	memory, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_ANON|unix.MAP_PRIVATE)
	must(t, err)
	defer func() { must(t, unix.Munmap(memory)) }()
	copy(memory[page-3:], "abc")
	must(t, unix.Mprotect(memory[page:], unix.PROT_NONE))
	name := filepath.Join(t.TempDir(), "a")
	f := open(t, vfs.OS{}, name, create)
	n, err := f.WriteVectorAt([][]byte{[]byte("12"), memory[page-3 : page+9], []byte("3")}, 0)
	if n != 5 || !errors.Is(err, unix.EFAULT) {
		t.Errorf("wrote %d bytes, %v; want 5 and EFAULT", n, err)
	}
	must(t, f.Close())
	if got := read(t, vfs.OS{}, name); got != "12abc" {
		t.Errorf("the file has %q", got)
	}
}
