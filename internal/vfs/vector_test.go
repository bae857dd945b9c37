package vfs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
)

// TestWriteVectorAt writes parts of all sizes, more than one call of the host takes.
func TestWriteVectorAt(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys vfs.FS, dir string) {
		name := filepath.Join(dir, "a")
		f := open(t, fsys, name, create)
		for _, sizes := range [][]int{
			{}, {0}, {3}, {0, 3, 0}, {1, 2, 3, 4, 5, 6, 7, 8}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
			{9, 0, 4096, 1, 512, 100_000, 7, 7, 0, 7, 1 << 20, 3, 3, 3, 3, 3, 5, 0},
		} {
			must(t, f.Truncate(0))
			var parts [][]byte
			want := make([]byte, 5)
			for i, size := range sizes {
				parts = append(parts, bytes.Repeat([]byte{byte('a' + i)}, size))
				want = append(want, parts[i]...)
			}
			n, err := f.WriteVectorAt(parts, 5)
			must(t, err)
			if n != len(want)-5 {
				t.Errorf("parts of %v: wrote %d bytes, want %d", sizes, n, len(want)-5)
			}
			must(t, f.Preallocate(5))
			if got := read(t, fsys, name); got != string(want) {
				t.Errorf("parts of %v: the file has other bytes", sizes)
			}
		}
		must(t, f.Close())
		if _, err := f.WriteVectorAt([][]byte{{1}}, 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("write to a closed file: %v", err)
		}
		f = open(t, fsys, name, os.O_RDONLY)
		if _, err := f.WriteVectorAt([][]byte{{1}}, 0); err == nil {
			t.Error("write to a file that is open for reading: no error")
		}
		must(t, f.Close())
	})
}

func TestWriteVectorAtAllocatesNothing(t *testing.T) {
	f := open(t, vfs.OS{}, filepath.Join(t.TempDir(), "a"), create)
	defer f.Close()
	parts := slices.Repeat([][]byte{make([]byte, 100)}, 20)
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := f.WriteVectorAt(parts, 0); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// TestMemVectorIsOneWrite: one operation for faults, for the recording and for crashes, with the
// bytes as they were at the time of the write.
func TestMemVectorIsOneWrite(t *testing.T) {
	m := vfs.NewMem()
	must(t, m.MkdirAll("/dir"))
	f := open(t, m, "/dir/a", create)
	write(t, f, "......", 0)
	must(t, f.Sync())
	must(t, m.SyncDir("/dir"))
	recording := m.Record()
	parts := [][]byte{[]byte("ab"), []byte("cd"), []byte("ef")}
	if _, err := f.WriteVectorAt(parts, 0); err != nil {
		t.Fatal(err)
	}
	copy(parts[1], "XX")
	if recording.Len() != 1 || string(recording.Op(0).Data) != "abcdef" {
		t.Fatalf("%d operations, the first is %v", recording.Len(), recording.Op(0))
	}
	torn := map[string]bool{}
	for image := range m.CrashImages(vfs.ImagePolicy{SectorBytes: 3}) {
		torn[read(t, image.FS, "/dir/a")] = true
	}
	for _, want := range []string{"......", "a.....", "abc...", "...def", "abcde.", "abcdef"} {
		if !torn[want] {
			t.Errorf("no crash leaves %q", want)
		}
	}
	fault := vfs.Fault{Ops: vfs.OpWrite, Do: vfs.Effect{Err: vfs.ErrIO, Short: 3}}
	m.Inject(fault)
	n, err := f.WriteVectorAt([][]byte{[]byte("gh"), []byte("ij")}, 0)
	if n != 3 || !errors.Is(err, vfs.ErrIO) || read(t, m, "/dir/a") != "ghidef" {
		t.Errorf("a short write: %d, %v, file %q", n, err, read(t, m, "/dir/a"))
	}
	m.SetLimit(8)
	n, err = f.WriteVectorAt([][]byte{[]byte("kl"), []byte("mn")}, 6)
	if n != 2 || !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("a full disk: %d, %v", n, err)
	}
	must(t, f.Close())
}
