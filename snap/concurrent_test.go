package snap_test

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/connectraft/connect/snap"
	"go.uber.org/goleak"
)

func TestPruneLeavesOpenTransfer(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	want := content(5, 1<<20)
	write(t, s, meta(5), want)
	first, err := s.OpenFile(7, 5)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Load(7, 5)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, meta(6), nil)
	write(t, s, meta(7), nil)
	if err := s.Prune(7, 2); err != nil {
		t.Fatal(err)
	}
	if got := indexes(s.List(7)); len(got) != 2 || got[0] != 7 || got[1] != 6 {
		t.Errorf("List = %v", got)
	}
	if _, err := s.OpenFile(7, 5); !errors.Is(err, snap.ErrNotFound) {
		t.Errorf("a pruned file is opened: %v", err)
	}
	if got := len(files(t, dir)); got != 3 {
		t.Errorf("%d files during the transfer, want 3", got)
	}
	// What is sent is still the whole snapshot.
	to := open(t, t.TempDir())
	if err := to.Receive(first.Manifest(), first); err != nil {
		t.Fatal(err)
	}
	if _, stream := load(t, to, 7, 5); !bytes.Equal(stream, want) {
		t.Error("the transfer of a pruned file differs")
	}
	for range 2 {
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(files(t, dir)); got != 3 {
		t.Errorf("%d files while one user is left, want 3", got)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if got := len(files(t, dir)); got != 2 {
		t.Errorf("%d files after the transfer, want 2", got)
	}
}

func TestReplacedFileOutlivesItsOldUsers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, meta(5), []byte("old"))
	f, err := s.OpenFile(7, 5)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(7, 5); err != nil {
		t.Fatal(err)
	}
	write(t, s, meta(5), []byte("new"))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, stream := load(t, s, 7, 5); string(stream) != "new" {
		t.Errorf("stream is %q", stream)
	}
}

func TestCloseStoreDuringTransfer(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, meta(5), []byte("x"))
	f, err := s.OpenFile(7, 5)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(7, 5); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, f); err != nil || n != f.Manifest().Size {
		t.Errorf("Copy = %d, %v", n, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("files: %q", got)
	}
}

// Writers, readers and Prune of the same and of different snapshots run beside each other, and
// every snapshot that can be loaded is one that was written whole.
func TestConcurrent(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, meta(1), content(1, 300<<10))
	var group sync.WaitGroup
	for worker := range 2 {
		group.Go(func() {
			for index := uint64(2); index < 12; index++ {
				// The two write the same identity with streams of different length.
				write(t, s, meta(index), content(index, 300<<10+worker))
				if err := s.Prune(7, 2); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Go(func() {
		for range 50 {
			for _, m := range s.List(7) {
				r, err := s.Load(7, m.Index)
				if errors.Is(err, snap.ErrNotFound) {
					continue // pruned meanwhile
				}
				if err != nil {
					t.Error(err)
					return
				}
				stream, err := io.ReadAll(r)
				if !bytes.Equal(stream[:300<<10], content(m.Index, 300<<10)) {
					t.Errorf("index %d reads another stream", m.Index)
				}
				if err := errors.Join(err, r.Close()); err != nil {
					t.Error(err)
				}
			}
		}
	})
	group.Wait()
	if got := indexes(s.List(7)); len(got) != 2 || got[0] != 11 || got[1] != 10 {
		t.Errorf("List = %v", got)
	}
	if got := files(t, dir); len(got) != 2 {
		t.Errorf("files: %q", got)
	}
	if got := indexes(open(t, dir).List(7)); len(got) != 2 || got[0] != 11 {
		t.Errorf("List of a new store = %v", got)
	}
}
