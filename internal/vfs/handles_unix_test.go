//go:build darwin || linux

package vfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
)

// TestOSNoHandles lets the process have no more files than it has.
func TestOSNoHandles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	few := limit
	few.Cur = 3
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
	_, err := vfs.OS{}.OpenFile(name, create)
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	if !errors.Is(err, vfs.ErrNoHandles) || !errors.Is(err, syscall.EMFILE) {
		t.Errorf("open: %v, want ErrNoHandles", err)
	}
	f, err := vfs.OS{}.OpenFile(name, os.O_RDWR|os.O_CREATE)
	must(t, err)
	must(t, f.Close())
}
