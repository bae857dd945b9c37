package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
)

func TestUnsafeNoSyncShouts(t *testing.T) {
	var out bytes.Buffer
	unsafe := vfs.UnsafeNoSync(vfs.OS{}, slog.New(slog.NewTextHandler(&out, nil)))
	if !strings.Contains(out.String(), "UNSAFE") {
		t.Errorf("log %q does not say UNSAFE", out.String())
	}
	if !vfs.IsUnsafe(unsafe) || vfs.IsUnsafe(vfs.OS{}) {
		t.Error("IsUnsafe tells the two apart wrongly")
	}
	if err := unsafe.SyncDir(filepath.Join(t.TempDir(), "missing")); err != nil {
		t.Errorf("SyncDir reached the disk: %v", err)
	}
}

func TestOSErrors(t *testing.T) {
	dir := t.TempDir()
	_, err := vfs.OS{}.OpenFile(filepath.Join(dir, "missing"), os.O_RDWR)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open missing: %v, want ErrNotExist", err)
	}
	_, err = vfs.OS{}.OpenFile(filepath.Join(dir, "x"), os.O_RDWR|os.O_APPEND)
	if !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("open with O_APPEND: %v, want ErrInvalid", err)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (vfs.OS{}).MkdirAll(filepath.Join(plain, "sub")); err == nil {
		t.Error("MkdirAll below a file gives no error")
	}
	if err := (vfs.OS{}).SyncDir(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SyncDir missing: %v, want ErrNotExist", err)
	}
}

func TestOSPreallocateKeepsBytes(t *testing.T) {
	f, err := vfs.OS{}.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("hello"), 5000); err != nil {
		t.Fatal(err)
	}
	if err := f.Preallocate(100_000); err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil || size != 100_000 {
		t.Fatalf("size %d, %v; want 100000", size, err)
	}
	got := make([]byte, 100_000)
	if _, err := f.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	want := make([]byte, 100_000)
	copy(want[5000:], "hello")
	if !bytes.Equal(got, want) {
		t.Error("preallocation changed bytes")
	}
}
