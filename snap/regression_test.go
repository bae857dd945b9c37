//go:build unix

package snap_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/connectraft/connect/snap"
	"golang.org/x/sys/unix"
)

// TestHugeMetaLength opens a store with a file whose trailer claims a meta of 2 GiB and more, which
// is a negative int on a system of 32 bits.
func TestHugeMetaLength(t *testing.T) {
	dir := t.TempDir()
	b := make([]byte, 4096)
	footer := b[len(b)-56:]
	binary.BigEndian.PutUint64(footer[32:], uint64(len(b)))
	binary.BigEndian.PutUint32(footer[40:], 1<<31|64)
	copy(footer[48:], "CNCTSNP1")
	name := fmt.Sprintf("%016x-%016x-%016x.snap", 1, 2, 3)
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := snap.Open(dir, snap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n := len(s.List(1)); n != 0 {
		t.Errorf("%d snapshots are listed, want none", n)
	}
}

// TestFailedOpenIsNoDamage loads a snapshot while somebody else holds a lock on its file. The file is
// whole, so it stays listed and loads when the lock is gone.
func TestFailedOpenIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	m := write(t, s, meta(5), content(1, 1000))
	f, err := os.Open(filepath.Join(dir, files(t, dir)[0]))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	_, err = s.Load(m.Group, m.Index)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if damage, ok := errors.AsType[*snap.DamageError](err); ok {
		t.Errorf("a file that is locked is called damaged: %v", damage)
	}
	r, err := s.Load(m.Group, m.Index)
	if err != nil {
		t.Fatalf("the snapshot does not load behind the lock: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
