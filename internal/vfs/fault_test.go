package vfs_test

import (
	"errors"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
)

func TestFaultChoosesOperations(t *testing.T) {
	m := newDir(t)
	f := durableFile(t, m, "/d/a.log", "")
	g := durableFile(t, m, "/d/b.txt", "")
	remove := m.Inject(vfs.Fault{
		Ops: vfs.OpWrite, Glob: "*.log", Nth: 2, Times: 2, Do: vfs.Effect{Err: vfs.ErrIO},
	})
	var failed []bool
	for range 5 {
		_, err := f.WriteAt([]byte("x"), 0)
		failed = append(failed, errors.Is(err, vfs.ErrIO))
		write(t, g, "x", 0)
		must(t, f.SyncData())
	}
	for i, want := range []bool{false, true, true, false, false} {
		if failed[i] != want {
			t.Errorf("write %d failed is %t, want %t", i, failed[i], want)
		}
	}
	remove()
	always := m.Inject(vfs.Fault{Ops: vfs.OpAnySync, Glob: "/d/a*", Times: -1,
		Do: vfs.Effect{Err: vfs.ErrIO}})
	for range 3 {
		if err := f.Sync(); !errors.Is(err, vfs.ErrIO) {
			t.Errorf("sync: %v, want EIO", err)
		}
	}
	always()
	must(t, f.Sync())
}

func TestFaultOnEveryOperation(t *testing.T) {
	calls := map[vfs.OpKind]func(m *vfs.Mem, f vfs.File) error{
		vfs.OpOpen: func(m *vfs.Mem, _ vfs.File) error {
			_, err := m.OpenFile("/d/f", create)
			return err
		},
		vfs.OpCreate: func(m *vfs.Mem, _ vfs.File) error {
			_, err := m.OpenFile("/d/new", create)
			return err
		},
		vfs.OpRead: func(_ *vfs.Mem, f vfs.File) error {
			_, err := f.ReadAt(make([]byte, 1), 0)
			return err
		},
		vfs.OpWrite: func(_ *vfs.Mem, f vfs.File) error {
			_, err := f.WriteAt([]byte("x"), 0)
			return err
		},
		vfs.OpList: func(m *vfs.Mem, _ vfs.File) error {
			_, err := m.List("/d")
			return err
		},
		vfs.OpLock: func(m *vfs.Mem, _ vfs.File) error {
			_, err := m.Lock("/d/LOCK")
			return err
		},
		vfs.OpTruncate:    func(_ *vfs.Mem, f vfs.File) error { return f.Truncate(1) },
		vfs.OpPreallocate: func(_ *vfs.Mem, f vfs.File) error { return f.Preallocate(100) },
		vfs.OpSyncData:    func(_ *vfs.Mem, f vfs.File) error { return f.SyncData() },
		vfs.OpSync:        func(_ *vfs.Mem, f vfs.File) error { return f.Sync() },
		vfs.OpSyncDir:     func(m *vfs.Mem, _ vfs.File) error { return m.SyncDir("/d") },
		vfs.OpRemove:      func(m *vfs.Mem, _ vfs.File) error { return m.Remove("/d/f") },
		vfs.OpRename:      func(m *vfs.Mem, _ vfs.File) error { return m.Rename("/d/f", "/d/g") },
		vfs.OpMkdir:       func(m *vfs.Mem, _ vfs.File) error { return m.MkdirAll("/d/sub") },
	}
	for kind, call := range calls {
		m := newDir(t)
		f := durableFile(t, m, "/d/f", "data")
		before := m.Fingerprint()
		m.Inject(vfs.Fault{Ops: kind, Do: vfs.Effect{Err: vfs.ErrNoSpace}})
		if err := call(m, f); !errors.Is(err, vfs.ErrNoSpace) {
			t.Errorf("%v: %v, want ErrNoSpace", kind, err)
		}
		if m.Fingerprint() != before {
			t.Errorf("%v failed and changed something", kind)
		}
		if err := call(m, f); err != nil {
			t.Errorf("%v after the fault: %v", kind, err)
		}
	}
}

func TestFaultShortWrite(t *testing.T) {
	m := newDir(t)
	f := durableFile(t, m, "/d/f", "----")
	m.Inject(vfs.Fault{Ops: vfs.OpWrite, Do: vfs.Effect{Err: vfs.ErrNoSpace, Short: 2}})
	n, err := f.WriteAt([]byte("abcd"), 0)
	if n != 2 || !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("short write: %d, %v", n, err)
	}
	if got := read(t, m, "/d/f"); got != "ab--" {
		t.Errorf("content %q", got)
	}
}

func TestFaultSyncFailsOnceThenLies(t *testing.T) {
	m := newDir(t)
	f := durableFile(t, m, "/d/f", "--")
	m.Inject(vfs.Fault{Ops: vfs.OpSyncData, Do: vfs.SyncFailsOnce()})
	write(t, f, "a", 0)
	if err := f.SyncData(); !errors.Is(err, vfs.ErrIO) {
		t.Fatalf("sync: %v, want EIO", err)
	}
	write(t, f, "b", 1)
	must(t, f.SyncData())
	if got := read(t, m, "/d/f"); got != "ab" {
		t.Errorf("the page cache holds %q", got)
	}
	expectOutcomes(t, m, "/d/f", vfs.ClassDefault, "-b")
}

func TestFaultLostSync(t *testing.T) {
	m := newDir(t)
	f := durableFile(t, m, "/d/f", "-")
	m.Inject(vfs.Fault{Ops: vfs.OpSyncData, Do: vfs.Effect{LoseSync: true}})
	write(t, f, "a", 0)
	must(t, f.SyncData())
	expectOutcomes(t, m, "/d/f", simpleClasses, "-", "a")
	must(t, f.SyncData())
	expectOutcomes(t, m, "/d/f", simpleClasses, "a")
	g := open(t, m, "/d/g", create)
	must(t, g.Sync())
	m.Inject(vfs.Fault{Ops: vfs.OpSyncDir, Do: vfs.Effect{LoseSync: true}})
	must(t, m.SyncDir("/d"))
	expectOutcomes(t, m, "/d/g", simpleClasses, "", "missing")
}

func TestFaultBitFlipIsTransient(t *testing.T) {
	m := newDir(t)
	f := durableFile(t, m, "/d/f", "abc")
	m.Inject(vfs.Fault{Ops: vfs.OpRead, Do: vfs.Effect{FlipBit: true, FlipBitAt: 9}})
	for _, want := range []string{"a`c", "abc"} {
		got := make([]byte, 3)
		if _, err := f.ReadAt(got, 0); err != nil || string(got) != want {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	}
}

func TestFaultMisdirectedWrite(t *testing.T) {
	tests := []struct {
		name string
		to   vfs.Misdirect
		f, g string
	}{
		{"other offset", vfs.Misdirect{Shift: 2}, "--xy", "...."},
		{"before the start", vfs.Misdirect{Shift: -1}, "----", "...."},
		{"other file", vfs.Misdirect{Name: "/d/g"}, "----", "xy.."},
		{"no such file", vfs.Misdirect{Name: "/d/none"}, "----", "...."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newDir(t)
			f := durableFile(t, m, "/d/f", "----")
			durableFile(t, m, "/d/g", "....")
			m.Inject(vfs.Fault{Ops: vfs.OpWrite, Do: vfs.Effect{Misdirect: &test.to}})
			write(t, f, "xy", 0)
			if got := read(t, m, "/d/f"); got != test.f {
				t.Errorf("f holds %q, want %q", got, test.f)
			}
			if got := read(t, m, "/d/g"); got != test.g {
				t.Errorf("g holds %q, want %q", got, test.g)
			}
		})
	}
}

func TestFaultStall(t *testing.T) {
	m := newDir(t)
	f := durableFile(t, m, "/d/f", "-")
	entered, release, done := make(chan vfs.Op), make(chan struct{}), make(chan error)
	m.Inject(vfs.Fault{Ops: vfs.OpSyncData, Do: vfs.Effect{Hook: func(op vfs.Op) {
		entered <- op
		<-release
	}}})
	write(t, f, "a", 0)
	go func() { done <- f.SyncData() }()
	if op := <-entered; op.Name != "d/f" || op.Kind != vfs.OpSyncData {
		t.Errorf("stalled %v", &op)
	}
	durableFile(t, m, "/d/other", "x") // The rest of the disk goes on.
	expectOutcomes(t, m, "/d/f", simpleClasses, "-", "a")
	close(release)
	must(t, <-done)
	expectOutcomes(t, m, "/d/f", simpleClasses, "a")
}
