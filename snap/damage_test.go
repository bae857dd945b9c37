package snap_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connectraft/connect/snap"
)

// wantDamage requires that a snapshot is refused as damaged and no longer listed.
func wantDamage(t *testing.T, s *snap.Store, what string) {
	t.Helper()
	r, err := s.Load(7, 5)
	damage, ok := errors.AsType[*snap.DamageError](err)
	if !ok {
		t.Fatalf("%s: Load = %v, %v; want damage", what, r, err)
	}
	if damage.File == "" || damage.What == "" || damage.Expected == damage.Found {
		t.Errorf("%s: damage says too little: %+v", what, damage)
	}
	if list := s.List(7); len(list) != 0 {
		t.Errorf("%s: still listed: %+v", what, list)
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	const trailer = 160 // bytes at the end of which every bit is tried
	dir := t.TempDir()
	m := write(t, open(t, dir), meta(5), content(1, 20_000))
	path := filepath.Join(dir, files(t, dir)[0])
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flip := func(bit int64) {
		var b [1]byte
		if _, err := f.ReadAt(b[:], bit/8); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1 << (bit % 8)
		if _, err := f.WriteAt(b[:], bit/8); err != nil {
			t.Fatal(err)
		}
	}
	for bit := int64(0); bit < m.Size*8; {
		flip(bit)
		s, err := snap.Open(dir, snap.Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantDamage(t, s, fmt.Sprintf("bit %d of byte %d", bit%8, bit/8))
		flip(bit)
		if bit += 1; bit < (m.Size-trailer)*8 {
			bit += 400
		}
	}
	if _, stream := load(t, open(t, dir), 7, 5); len(stream) != 20_000 {
		t.Error("the repaired file does not load")
	}
}

func TestDamageAfterOpen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, meta(4), []byte("older"))
	m := write(t, s, meta(5), content(1, 20_000))
	path := filepath.Join(dir, files(t, dir)[1])
	if err := os.Truncate(path, m.Size-1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(7, 5); err == nil {
		t.Fatal("a shortened file loads")
	}
	if got := indexes(s.List(7)); len(got) != 1 || got[0] != 4 {
		t.Errorf("List = %v", got)
	}
	if _, err := s.OpenFile(7, 5); err == nil {
		t.Error("a shortened file is transferred")
	}
	// A damaged file does not count as kept, and goes when newer ones have passed it.
	if err := s.Prune(7, 1); err != nil {
		t.Fatal(err)
	}
	if got := len(files(t, dir)); got != 2 {
		t.Errorf("%d files after Prune, want the good one and the damaged newer one", got)
	}
	write(t, s, meta(6), nil)
	if err := s.Prune(7, 1); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 1 || !strings.Contains(got[0], "-0000000000000006-") {
		t.Errorf("files after the second Prune: %q", got)
	}
}

func TestTruncatedAndForeignFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, open(t, dir), meta(5), content(1, 20_000))
	name := files(t, dir)[0]
	whole, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	size := len(whole)
	replace := func(what string, data []byte) {
		broken := t.TempDir()
		if err := os.WriteFile(filepath.Join(broken, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		wantDamage(t, open(t, broken), what)
	}
	for _, length := range []int{0, 1, 55, 56, 57, 4096, size / 2, size - 57, size - 56, size - 1} {
		replace(fmt.Sprintf("cut to %d of %d bytes", length, size), whole[:length])
	}
	replace("one byte more", append(bytes.Clone(whole), 0))
	replace("one byte before", append([]byte{0}, whole...))
	replace("two files in one", append(bytes.Clone(whole), whole...))
	replace("only the trailer", whole[size-150:])
	replace("zeros", make([]byte, size))
	replace("another trailer size", append(bytes.Clone(whole[:size-56]), make([]byte, 56)...))

	renamed := t.TempDir()
	other := strings.Replace(name, "-0000000000000005-", "-0000000000000006-", 1)
	if err := os.WriteFile(filepath.Join(renamed, other), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, renamed).Load(7, 6); err == nil {
		t.Error("a renamed file loads under its new name")
	}
}

// receiveFrom copies a snapshot from one store to another through change.
func receiveFrom(t *testing.T, from, to *snap.Store, change func(*snap.Manifest, []byte) io.Reader,
) error {
	t.Helper()
	f, err := from.OpenFile(7, 5)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	body, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	m := f.Manifest()
	if int64(len(body)) != m.Size {
		t.Fatalf("%d bytes, manifest says %d", len(body), m.Size)
	}
	return to.Receive(m, change(&m, body))
}

func TestReceive(t *testing.T) {
	from, dir := open(t, t.TempDir()), t.TempDir()
	want := content(1, 1<<20)
	m := write(t, from, meta(5), want)
	to := open(t, dir)
	whole := func(_ *snap.Manifest, body []byte) io.Reader { return bytes.NewReader(body) }
	for range 2 { // the second replaces the first
		if err := receiveFrom(t, from, to, whole); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*snap.Store{to, open(t, dir)} {
		got, stream := load(t, s, 7, 5)
		if !bytes.Equal(stream, want) || !equalMeta(got, meta(5)) {
			t.Error("what was received is not what was sent")
		}
		if list := s.List(7); len(list) != 1 || list[0].Digest != m.Digest {
			t.Errorf("List = %+v", list)
		}
	}
}

var errBroken = errors.New("connection broken")

func TestReceiveRefuses(t *testing.T) {
	from, dir := open(t, t.TempDir()), t.TempDir()
	m := write(t, from, meta(5), content(1, 600<<10))
	f, err := from.OpenFile(7, 5)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(body)
	flipped[len(flipped)/2] ^= 4
	wrongDigest, wrongIndex, wrongTime, shorter := m, m, m, m
	wrongDigest.Digest[0] ^= 1
	wrongIndex.Index++
	wrongTime.Time++
	shorter.Size--
	to := open(t, dir)
	for _, test := range []struct {
		name     string
		manifest snap.Manifest
		body     io.Reader
		want     error
	}{
		{"wrong digest", wrongDigest, bytes.NewReader(body), snap.ErrMismatch},
		{"wrong index", wrongIndex, bytes.NewReader(body), snap.ErrMismatch},
		{"wrong time", wrongTime, bytes.NewReader(body), snap.ErrMismatch},
		{"size smaller than the body", shorter, bytes.NewReader(body), snap.ErrMismatch},
		{"flipped bit", m, bytes.NewReader(flipped), snap.ErrMismatch},
		{"empty body", m, bytes.NewReader(nil), snap.ErrMismatch},
		{"short body", m, bytes.NewReader(body[:len(body)-1]), snap.ErrMismatch},
		{"long body", m, io.MultiReader(bytes.NewReader(body), strings.NewReader("x")),
			snap.ErrMismatch},
		{"broken connection", m, io.MultiReader(bytes.NewReader(body[:9000]), broken{}), errBroken},
		{"no index", snap.Manifest{Size: 100}, bytes.NewReader(body), snap.ErrInvalid},
	} {
		if err := to.Receive(test.manifest, test.body); !errors.Is(err, test.want) {
			t.Errorf("%s: Receive = %v, want %v", test.name, err, test.want)
		}
		if got := files(t, dir); len(got) != 0 {
			t.Errorf("%s: left behind: %q", test.name, got)
		}
		if got := to.List(7); len(got) != 0 {
			t.Errorf("%s: listed: %+v", test.name, got)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }
