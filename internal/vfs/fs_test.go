package vfs_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
)

// eachFS runs a test on the file system of the host and on the one in memory, because storage
// code that is tested on one runs on the other.
func eachFS(t *testing.T, test func(t *testing.T, fsys vfs.FS, dir string)) {
	t.Run("OS", func(t *testing.T) { test(t, vfs.OS{}, t.TempDir()) })
	t.Run("Mem", func(t *testing.T) {
		m := vfs.NewMem()
		must(t, m.MkdirAll("/dir"))
		test(t, m, "/dir")
		if n := m.OpenHandles(); n != 0 {
			t.Errorf("%d handles are still open", n)
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const create = os.O_RDWR | os.O_CREATE

func open(t testing.TB, fsys vfs.FS, name string, flag int) vfs.File {
	t.Helper()
	f, err := fsys.OpenFile(name, flag)
	must(t, err)
	return f
}

func write(t testing.TB, f vfs.File, data string, off int64) {
	t.Helper()
	n, err := f.WriteAt([]byte(data), off)
	must(t, err)
	if n != len(data) {
		t.Fatalf("wrote %d of %d bytes", n, len(data))
	}
}

// read returns the whole file, or "missing".
func read(t testing.TB, fsys vfs.FS, name string) string {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return "missing"
	}
	must(t, err)
	size, err := f.Size()
	must(t, err)
	data := make([]byte, size)
	if n, err := f.ReadAt(data, 0); int64(n) != size || err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("read %d of %d bytes: %v", n, size, err)
	}
	must(t, f.Close())
	return string(data)
}

func TestFSFiles(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys vfs.FS, dir string) {
		name := filepath.Join(dir, "a")
		_, err := fsys.OpenFile(name, os.O_RDWR)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open missing: %v", err)
		}
		f := open(t, fsys, name, create|os.O_EXCL)
		if _, err := fsys.OpenFile(name, create|os.O_EXCL); !errors.Is(err, fs.ErrExist) {
			t.Errorf("exclusive create twice: %v", err)
		}
		write(t, f, "hello", 3)
		must(t, f.Truncate(6))
		must(t, f.Truncate(9))
		must(t, f.Preallocate(4))
		must(t, f.Preallocate(10))
		must(t, f.SyncData())
		must(t, f.Sync())
		if got, want := read(t, fsys, name), "\x00\x00\x00hel\x00\x00\x00\x00"; got != want {
			t.Errorf("content %q, want %q", got, want)
		}
		if n, err := f.ReadAt(make([]byte, 4), 8); n != 2 || !errors.Is(err, io.EOF) {
			t.Errorf("read over the end: %d, %v; want 2, EOF", n, err)
		}
		must(t, f.Close())
		if err := f.SyncData(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("sync after close: %v, want ErrClosed", err)
		}
		readOnly := open(t, fsys, name, os.O_RDONLY)
		if _, err := readOnly.WriteAt([]byte("x"), 0); err == nil {
			t.Error("a read-only file takes a write")
		}
		must(t, readOnly.Close())
	})
}

func TestFSNames(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys vfs.FS, dir string) {
		sub := filepath.Join(dir, "x", "y")
		must(t, fsys.MkdirAll(sub))
		must(t, fsys.MkdirAll(sub))
		for _, name := range []string{"c", "a", "b"} {
			f := open(t, fsys, filepath.Join(sub, name), create)
			write(t, f, name, 0)
			must(t, f.Close())
		}
		must(t, fsys.Rename(filepath.Join(sub, "c"), filepath.Join(sub, "a")))
		must(t, fsys.SyncDir(sub))
		names, err := fsys.List(sub)
		must(t, err)
		if want := []string{"a", "b"}; !slices.Equal(names, want) {
			t.Errorf("names %v, want %v", names, want)
		}
		if got := read(t, fsys, filepath.Join(sub, "a")); got != "c" {
			t.Errorf("renamed file holds %q", got)
		}
		if err := fsys.Remove(sub); err == nil {
			t.Error("a directory with files can be removed")
		}
		must(t, fsys.Remove(filepath.Join(sub, "a")))
		must(t, fsys.Remove(filepath.Join(sub, "b")))
		must(t, fsys.Remove(sub))
		for what, err := range map[string]error{
			"remove":  fsys.Remove(sub),
			"rename":  fsys.Rename(sub, dir+"/z"),
			"syncdir": fsys.SyncDir(sub),
		} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s of a missing directory: %v", what, err)
			}
		}
		if _, err := fsys.List(sub); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("list of a missing directory: %v", err)
		}
	})
}

func TestFSRemoveKeepsOpenFile(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys vfs.FS, dir string) {
		name := filepath.Join(dir, "a")
		f := open(t, fsys, name, create)
		write(t, f, "abc", 0)
		must(t, fsys.Remove(name))
		must(t, fsys.SyncDir(dir))
		write(t, f, "d", 3)
		must(t, f.SyncData())
		got := make([]byte, 4)
		if _, err := f.ReadAt(got, 0); err != nil || string(got) != "abcd" {
			t.Errorf("read %q, %v", got, err)
		}
		must(t, f.Close())
		if got := read(t, fsys, name); got != "missing" {
			t.Errorf("removed file is %q", got)
		}
	})
}

func TestFSLock(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys vfs.FS, dir string) {
		name := filepath.Join(dir, "LOCK")
		lock, err := fsys.Lock(name)
		must(t, err)
		if _, err := fsys.Lock(name); !errors.Is(err, vfs.ErrLocked) {
			t.Errorf("second lock: %v, want ErrLocked", err)
		}
		must(t, lock.Close())
		again, err := fsys.Lock(name)
		must(t, err)
		must(t, again.Close())
	})
}
