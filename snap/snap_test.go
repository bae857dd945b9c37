package snap_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connectraft/connect/snap"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// meta is a snapshot of group 7 at an index.
func meta(index uint64) snap.Meta {
	return snap.Meta{
		Group: 7, Index: index, Term: 3, Time: 1234567890123456789,
		ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}, Learners: []uint64{9}},
		Machine:   "counter", Version: 2,
	}
}

// content is a stream that does not compress and differs from seed to seed.
func content(seed uint64, size int) []byte {
	b := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = source.Read(b)
	return b
}

func open(t testing.TB, dir string) *snap.Store {
	t.Helper()
	s, err := snap.Open(dir, snap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// write commits a snapshot whose stream arrives in pieces of odd sizes.
func write(t testing.TB, s *snap.Store, m snap.Meta, stream []byte) snap.Manifest {
	t.Helper()
	w, err := s.Create(m)
	if err != nil {
		t.Fatal(err)
	}
	for len(stream) > 0 {
		n := min(len(stream), 100_003)
		if wrote, err := w.Write(stream[:n]); err != nil || wrote != n {
			t.Fatalf("Write = %d, %v", wrote, err)
		}
		stream = stream[n:]
	}
	manifest, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return manifest
}

func load(t testing.TB, s *snap.Store, group, index uint64) (snap.Meta, []byte) {
	t.Helper()
	r, err := s.Load(group, index)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	stream, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return r.Meta(), stream
}

// files returns the names in a directory.
func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

func equalMeta(a, b snap.Meta) bool {
	if !proto.Equal(a.ConfState, b.ConfState) {
		return false
	}
	a.ConfState, b.ConfState = nil, nil
	return a == b
}

func indexes(manifests []snap.Manifest) []uint64 {
	list := []uint64{}
	for _, m := range manifests {
		list = append(list, m.Index)
	}
	return list
}

func TestRoundTrip(t *testing.T) {
	const chunk = 256 << 10
	for _, size := range []int{0, 1, chunk - 1, chunk, chunk + 1, 16 * chunk, 16*chunk + 1, 10 << 20} {
		dir := t.TempDir()
		s := open(t, dir)
		want := content(uint64(size), size)
		m := write(t, s, meta(5), want)

		for _, store := range []*snap.Store{s, open(t, dir)} {
			got, stream := load(t, store, 7, 5)
			if !equalMeta(got, meta(5)) {
				t.Errorf("%d bytes: meta is %+v", size, got)
			}
			if !bytes.Equal(stream, want) {
				t.Errorf("%d bytes: stream of %d bytes differs", size, len(stream))
			}
			list := store.List(7)
			if len(list) != 1 || list[0].Digest != m.Digest || list[0].Size != m.Size {
				t.Errorf("%d bytes: List = %+v, want %+v", size, list, m)
			}
		}
		if names := files(t, dir); len(names) != 1 ||
			names[0] != "0000000000000007-0000000000000005-0000000000000003.snap" {
			t.Errorf("files are %q", names)
		}
		if over := m.Size - int64(size); over > int64(size)/4+64<<10 {
			t.Errorf("%d bytes: the file takes %d bytes more", size, over)
		}
	}
}

func TestSameStreamSameFile(t *testing.T) {
	stream := content(1, 6<<20)
	a := write(t, open(t, t.TempDir()), meta(5), stream)
	b := write(t, open(t, t.TempDir()), meta(5), stream)
	if a.Digest != b.Digest {
		t.Error("two stores make different files of the same stream")
	}
}

func TestListGroupsPrune(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, index := range []uint64{20, 5, 300, 10} {
		write(t, s, meta(index), content(index, 100))
	}
	other := meta(8)
	other.Group = 1
	write(t, s, other, nil)

	if got := s.Groups(); len(got) != 2 || got[0] != 1 || got[1] != 7 {
		t.Errorf("Groups = %v", got)
	}
	if err := s.Prune(7, 0); err == nil {
		t.Error("Prune keeps nothing without an error")
	}
	if err := s.Prune(7, 2); err != nil {
		t.Fatal(err)
	}
	for _, store := range []*snap.Store{s, open(t, dir)} {
		if got := indexes(store.List(7)); len(got) != 2 || got[0] != 300 || got[1] != 20 {
			t.Errorf("List after Prune = %v", got)
		}
	}
	if err := s.Remove(7, 20); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(7, 20); !errors.Is(err, snap.ErrNotFound) {
		t.Errorf("Remove of nothing = %v", err)
	}
	if _, err := s.Load(7, 20); !errors.Is(err, snap.ErrNotFound) {
		t.Errorf("Load of nothing = %v", err)
	}
	if err := s.RemoveGroup(7); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 1 || !strings.HasPrefix(got[0], "0000000000000001-") {
		t.Errorf("files after RemoveGroup: %q", got)
	}
}

func TestLeftoversAreRemoved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, meta(5), nil)
	w, err := s.Create(meta(6))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content(6, 5<<20)); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 2 {
		t.Fatalf("files while writing: %q", got)
	}
	// What a crash leaves: the same bytes with nobody to finish them.
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(crashed, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := indexes(open(t, crashed).List(7)); len(got) != 1 || got[0] != 5 {
		t.Errorf("List after the crash = %v", got)
	}
	if got := files(t, crashed); len(got) != 2 || got[1] != "notes.txt" {
		t.Errorf("files after the crash: %q", got)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("files after Abort: %q", got)
	}
}

func TestFinishedWriter(t *testing.T) {
	s := open(t, t.TempDir())
	w, err := s.Create(meta(5))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, snap.ErrFinished) {
		t.Errorf("Write after Commit = %v", err)
	}
	if _, err := w.Commit(); !errors.Is(err, snap.ErrFinished) {
		t.Errorf("second Commit = %v", err)
	}
	if err := w.Abort(); err != nil {
		t.Errorf("Abort after Commit = %v", err)
	}
	if got := len(s.List(7)); got != 1 {
		t.Errorf("%d snapshots after all that", got)
	}
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, meta(5), []byte("old"))
	r, err := s.Load(7, 5)
	if err != nil {
		t.Fatal(err)
	}
	second := write(t, s, meta(5), []byte("new"))
	if _, stream := load(t, s, 7, 5); string(stream) != "new" {
		t.Errorf("Load after the second Commit reads %q", stream)
	}
	if stream, err := io.ReadAll(r); err != nil || string(stream) != "old" {
		t.Errorf("a Reader from before reads %q, %v", stream, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if list := s.List(7); len(list) != 1 || list[0].Digest != second.Digest {
		t.Errorf("List = %+v", list)
	}
}

func TestClosedStore(t *testing.T) {
	dir := t.TempDir()
	s, err := snap.Open(dir, snap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, meta(5), []byte("x"))
	w, err := s.Create(meta(6))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Commit(); !errors.Is(err, snap.ErrClosed) {
		t.Errorf("Commit = %v", err)
	}
	if _, err := s.Load(7, 5); !errors.Is(err, snap.ErrClosed) {
		t.Errorf("Load = %v", err)
	}
	if err := s.Remove(7, 5); !errors.Is(err, snap.ErrClosed) {
		t.Errorf("Remove = %v", err)
	}
	if _, err := s.Create(meta(7)); !errors.Is(err, snap.ErrClosed) {
		t.Errorf("Create = %v", err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("files: %q", got)
	}
}
