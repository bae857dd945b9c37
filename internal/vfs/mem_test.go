package vfs_test

import (
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
)

// newDir returns a file system with an empty, durable directory /d.
func newDir(t testing.TB) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem()
	must(t, m.MkdirAll("/d"))
	return m
}

// durableFile makes a file whose name and bytes survive everything.
func durableFile(t testing.TB, m *vfs.Mem, name, data string) vfs.File {
	t.Helper()
	f := open(t, m, name, create)
	write(t, f, data, 0)
	must(t, f.SyncData())
	must(t, m.SyncDir("/d"))
	return f
}

// outcomes returns what a file may hold after a crash, sorted, for a union of classes.
func outcomes(t testing.TB, m *vfs.Mem, name string, policy vfs.ImagePolicy) []string {
	t.Helper()
	var found []string
	for image := range m.CrashImages(policy) {
		if got := read(t, image.FS, name); !slices.Contains(found, got) {
			found = append(found, got)
		}
	}
	slices.Sort(found)
	return found
}

func expectOutcomes(t *testing.T, m *vfs.Mem, name string, classes vfs.Class, want ...string) {
	t.Helper()
	slices.Sort(want)
	got := outcomes(t, m, name, vfs.ImagePolicy{Classes: classes})
	if !slices.Equal(got, want) {
		t.Errorf("after a crash %s may be %q, want %q", name, got, want)
	}
}

const simpleClasses = vfs.ClassNone | vfs.ClassAll | vfs.ClassPrefix | vfs.ClassMissing

// TestMemSyncPromises holds what each kind of sync does and, more important, what it does not.
func TestMemSyncPromises(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T, m *vfs.Mem)
		want []string
	}{
		{"bytes and name synced", func(t *testing.T, m *vfs.Mem) {
			durableFile(t, m, "/d/f", "new")
		}, []string{"new"}},
		{"name not synced", func(t *testing.T, m *vfs.Mem) {
			f := open(t, m, "/d/f", create)
			write(t, f, "new", 0)
			must(t, f.Sync())
		}, []string{"missing", "new"}},
		{"bytes not synced", func(t *testing.T, m *vfs.Mem) {
			write(t, open(t, m, "/d/f", create), "new", 0)
			must(t, m.SyncDir("/d"))
		}, []string{"", "new"}},
		{"name synced in the wrong directory", func(t *testing.T, m *vfs.Mem) {
			f := open(t, m, "/d/f", create)
			write(t, f, "new", 0)
			must(t, f.Sync())
			must(t, m.SyncDir("/"))
		}, []string{"missing", "new"}},
		{"overwrite not synced", func(t *testing.T, m *vfs.Mem) {
			write(t, durableFile(t, m, "/d/f", "old"), "NEW", 0)
		}, []string{"old", "NEW"}},
		{"sync of another file", func(t *testing.T, m *vfs.Mem) {
			write(t, durableFile(t, m, "/d/f", "old"), "NEW", 0)
			durableFile(t, m, "/d/g", "x")
		}, []string{"old", "NEW"}},
		{"remove not synced", func(t *testing.T, m *vfs.Mem) {
			durableFile(t, m, "/d/f", "old")
			must(t, m.Remove("/d/f"))
		}, []string{"old", "missing"}},
		{"remove synced", func(t *testing.T, m *vfs.Mem) {
			durableFile(t, m, "/d/f", "old")
			must(t, m.Remove("/d/f"))
			must(t, m.SyncDir("/d"))
		}, []string{"missing"}},
		{"truncate not synced", func(t *testing.T, m *vfs.Mem) {
			must(t, durableFile(t, m, "/d/f", "old").Truncate(1))
		}, []string{"old", "o"}},
		{"closed, not synced", func(t *testing.T, m *vfs.Mem) {
			f := durableFile(t, m, "/d/f", "old")
			write(t, f, "NEW", 0)
			must(t, f.Close())
		}, []string{"old", "NEW"}},
		{"two writes may be reordered", func(t *testing.T, m *vfs.Mem) {
			f := durableFile(t, m, "/d/f", "----")
			write(t, f, "aa", 0)
			write(t, f, "bb", 2)
		}, []string{"----", "aa--", "--bb", "aabb"}},
		{"removed and made again", func(t *testing.T, m *vfs.Mem) {
			durableFile(t, m, "/d/f", "old")
			must(t, m.Remove("/d/f"))
			f := open(t, m, "/d/f", create)
			write(t, f, "new", 0)
			must(t, f.Sync())
		}, []string{"old", "missing", "new"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newDir(t)
			test.run(t, m)
			expectOutcomes(t, m, "/d/f", simpleClasses, test.want...)
		})
	}
}

func TestMemRenameIsOldXorNew(t *testing.T) {
	m := newDir(t)
	durableFile(t, m, "/d/f", "old")
	tmp := open(t, m, "/d/tmp", create)
	write(t, tmp, "new", 0)
	must(t, tmp.Sync())
	must(t, m.Rename("/d/tmp", "/d/f"))
	expectOutcomes(t, m, "/d/f", vfs.ClassDefault, "old", "new")
	must(t, m.SyncDir("/d"))
	expectOutcomes(t, m, "/d/f", vfs.ClassDefault, "new")
	expectOutcomes(t, m, "/d/tmp", vfs.ClassDefault, "missing")
}

// TestMemRenameBeforeSync shows the classic mistake: without a sync before the rename the new name
// may lead to an empty file.
func TestMemRenameBeforeSync(t *testing.T) {
	m := newDir(t)
	durableFile(t, m, "/d/f", "old")
	write(t, open(t, m, "/d/tmp", create), "new", 0)
	must(t, m.Rename("/d/tmp", "/d/f"))
	must(t, m.SyncDir("/d"))
	expectOutcomes(t, m, "/d/f", simpleClasses, "", "new")
}

func TestMemRenameAcrossDirectories(t *testing.T) {
	m := newDir(t)
	must(t, m.MkdirAll("/e"))
	f := open(t, m, "/d/f", create)
	write(t, f, "x", 0)
	must(t, f.Sync())
	must(t, m.Rename("/d/f", "/e/f"))
	must(t, m.SyncDir("/e"))
	for image := range m.CrashImages(vfs.ImagePolicy{}) {
		from, to := read(t, image.FS, "/d/f"), read(t, image.FS, "/e/f")
		if from != "missing" || to != "x" {
			t.Errorf("%v: the old name holds %q, the new one %q", image, from, to)
		}
	}
}

func TestMemKill(t *testing.T) {
	m := newDir(t)
	f := durableFile(t, m, "/d/f", "old")
	write(t, f, "new", 0)
	lock, err := m.Lock("/d/LOCK")
	must(t, err)
	m.Kill()
	if n := m.OpenHandles(); n != 0 {
		t.Errorf("%d handles survive the kill", n)
	}
	if got := read(t, m, "/d/f"); got != "new" {
		t.Errorf("a killed process leaves %q, want what it wrote", got)
	}
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("write through a dead handle: %v", err)
	}
	if err := lock.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("release of a dead lock: %v", err)
	}
	again, err := m.Lock("/d/LOCK")
	must(t, err)
	must(t, again.Close())
	expectOutcomes(t, m, "/d/f", simpleClasses, "old", "new")
}

func TestMemImageHasNoLocks(t *testing.T) {
	m := newDir(t)
	_, err := m.Lock("/d/LOCK")
	must(t, err)
	for image := range m.CrashImages(vfs.ImagePolicy{}) {
		lock, err := image.FS.Lock("/d/LOCK")
		must(t, err)
		must(t, lock.Close())
	}
}

func TestMemLimit(t *testing.T) {
	m := newDir(t)
	f := durableFile(t, m, "/d/f", "12345")
	m.SetLimit(8)
	n, err := f.WriteAt([]byte("abcdef"), 5)
	if n != 3 || !errors.Is(err, vfs.ErrNoSpace) {
		t.Fatalf("write on a full disk: %d, %v; want 3, ErrNoSpace", n, err)
	}
	write(t, f, "ABC", 0)
	if err := f.Preallocate(9); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("preallocate on a full disk: %v", err)
	}
	must(t, f.Truncate(2))
	write(t, f, "xyz", 2)
	if got := read(t, m, "/d/f"); got != "ABxyz" {
		t.Errorf("content %q", got)
	}
	if m.Used() != 5 {
		t.Errorf("used %d, want 5", m.Used())
	}
	m.SetLimit(0)
	write(t, f, "0123456789", 0)
}

// TestMemCrashDraw wants both ends from the seeded draw, and the same one from the same seed.
func TestMemCrashDraw(t *testing.T) {
	m := newDir(t)
	write(t, durableFile(t, m, "/d/f", "old"), "NEW", 0)
	var found []string
	for seed := range uint64(64) {
		got := read(t, m.Crash(seed), "/d/f")
		if again := read(t, m.Crash(seed), "/d/f"); again != got {
			t.Fatalf("seed %d gives %q, then %q", seed, got, again)
		}
		if !slices.Contains(found, got) {
			found = append(found, got)
		}
	}
	slices.Sort(found)
	if want := []string{"NEW", "NEd", "Nld", "old"}; !slices.Equal(found, want) {
		t.Errorf("draws %q, want %q", found, want)
	}
}
