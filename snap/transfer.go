package snap

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// File gives the raw bytes of a snapshot file for a transfer to another node. Read is for one
// goroutine, ReadAt for many.
type File struct {
	store    *Store
	entry    *entry // nil once closed
	file     *os.File
	manifest Manifest
}

var (
	_ io.ReadCloser = (*File)(nil)
	_ io.ReaderAt   = (*File)(nil)
)

// OpenFile opens a snapshot for a transfer. The trailer is checked, the body is not: the receiver
// does that. The file stays in its place until Close, whatever Prune and Remove are told meanwhile.
// It returns [ErrNotFound], a [*DamageError] or an error of the operating system.
func (s *Store) OpenFile(group, index uint64) (*File, error) {
	e, err := s.pin(group, index)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(s.dir, e.id.name())
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("snap: open for transfer: %w", err), s.release(e))
	}
	m, err := readTrailer(f)
	if err == nil {
		err = checkIdentity(path, m, e.id)
	}
	if err != nil {
		s.condemn(e, err)
		return nil, errors.Join(err, f.Close(), s.release(e))
	}
	return &File{store: s, entry: e, file: f, manifest: m}, nil
}

// Manifest returns the manifest of the bytes, Size of them.
func (f *File) Manifest() Manifest { return f.manifest }

// Read implements io.Reader from the first byte of the file.
func (f *File) Read(p []byte) (int, error) { return f.file.Read(p) }

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, offset int64) (int, error) { return f.file.ReadAt(p, offset) }

// Close releases the file, and removes it if it was pruned meanwhile. It is idempotent.
func (f *File) Close() error {
	if f.entry == nil {
		return nil
	}
	e := f.entry
	f.entry = nil
	return errors.Join(f.file.Close(), f.store.release(e))
}

// Receive takes the bytes of a snapshot file from another node. body must give exactly m.Size bytes
// and then io.EOF. They go into a temporary file, which is verified as it lies on the disk: size,
// digest and trailer against m. The snapshot is durable and listed on return, and replaces one of
// the same group, index and term. It returns [ErrMismatch], a [*WriteError] or body's own error,
// after each of which nothing is left of it (but see [Writer.Commit] for the last sync).
func (s *Store) Receive(m Manifest, body io.Reader) (err error) {
	if _, err := m.AppendBinary(nil); err != nil {
		return err
	}
	temp, err := s.tempName(m.identity())
	if err != nil {
		return err
	}
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return &WriteError{Op: "create", File: temp, Err: err}
	}
	err = receive(f, m, body)
	if e := f.Close(); err == nil && e != nil {
		err = &WriteError{Op: "close", File: temp, Err: e}
	}
	if err == nil {
		err = s.publish(temp, m)
	}
	if e := os.Remove(temp); err != nil && e != nil && !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// receive fills f from body, verifies and syncs it.
func receive(f *os.File, m Manifest, body io.Reader) error {
	if err := fill(f, m.Size, body); err != nil {
		return err
	}
	found, err := verify(f)
	if damage, ok := errors.AsType[*DamageError](err); ok {
		return fmt.Errorf("%w: %s: expected %s, found %s",
			ErrMismatch, damage.What, damage.Expected, damage.Found)
	}
	if err != nil {
		return err
	}
	if err := sameManifest(m, found); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return &WriteError{Op: "sync", File: f.Name(), Err: err}
	}
	return nil
}

// idleReadsMax is how often in a row a body may return nothing.
const idleReadsMax = 100

// fill copies exactly size bytes of body. It tells an error of reading from one of writing.
func fill(f *os.File, size int64, body io.Reader) error {
	buffer := make([]byte, hashBytes)
	idle := 0
	for at := int64(0); ; {
		n, err := body.Read(buffer)
		if n > 0 || err != nil {
			idle = 0
		} else if idle++; idle > idleReadsMax {
			return fmt.Errorf("snap: receive: after %d of %d bytes: %w", at, size, io.ErrNoProgress)
		}
		if int64(n) > size-at {
			return fmt.Errorf("%w: more than the %d bytes promised", ErrMismatch, size)
		}
		if _, err := f.Write(buffer[:n]); err != nil {
			return &WriteError{Op: "write", File: f.Name(), Err: err}
		}
		at += int64(n)
		if err == io.EOF && at < size {
			return fmt.Errorf("%w: %d bytes of the %d promised", ErrMismatch, at, size)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("snap: receive: after %d of %d bytes: %w", at, size, err)
		}
	}
}

// sameManifest compares the promise with the file by their encodings, so that no field is left out.
func sameManifest(promised, found Manifest) error {
	want, err := promised.AppendBinary(nil)
	if err != nil {
		return err
	}
	got, err := found.AppendBinary(nil)
	if err != nil {
		return err
	}
	if string(want) != string(got) {
		return fmt.Errorf("%w: the file is index %d, term %d, digest %x, not index %d, term %d, "+
			"digest %x", ErrMismatch, found.Index, found.Term, found.Digest,
			promised.Index, promised.Term, promised.Digest)
	}
	return nil
}
