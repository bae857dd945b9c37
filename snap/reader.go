package snap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// Reader gives back the stream that was written to a [Writer]. It is used by one goroutine.
type Reader struct {
	store *Store
	entry *entry
	path  string
	meta  Meta

	db     *bbolt.DB // nil once closed
	tx     *bbolt.Tx
	cursor *bbolt.Cursor

	buffer []byte // memory of the current chunk
	rest   []byte // what of the current chunk has not been read
	next   uint64 // number of the next chunk
	bytes  uint64 // length of the stream that has not been taken from the database
	chunks uint64 // chunks of the whole stream
	err    error  // what ended the stream
}

// Load verifies the whole file of a snapshot and opens its stream. It reads the file once for the
// digest before anything of the content is believed. It returns [ErrNotFound], a [*DamageError],
// after which the snapshot is no longer listed, or an error of the operating system. The caller
// closes the Reader; until then the file stays in its place.
func (s *Store) Load(group, index uint64) (*Reader, error) {
	e, err := s.pin(group, index)
	if err != nil {
		return nil, err
	}
	r := &Reader{store: s, entry: e, path: filepath.Join(s.dir, e.id.name())}
	if err := r.open(); err != nil {
		s.condemn(e, err)
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// open verifies the file and opens the very same descriptor as a database, so that no other file
// can come between the two.
func (r *Reader) open() error {
	f, err := os.Open(r.path)
	if err != nil {
		return fmt.Errorf("snap: load: %w", err)
	}
	m, err := verify(f)
	if err == nil {
		err = checkIdentity(r.path, m, r.entry.id)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r.meta = m.Meta
	var system error // no room to map the file, a lock: that says nothing about the file
	err = guard(func() error {
		r.db, system = bbolt.Open(r.path, 0, &bbolt.Options{
			ReadOnly: true, Timeout: lockTimeout, NoStatistics: true,
			OpenFile: func(string, int, os.FileMode) (*os.File, error) { return f, nil },
		})
		if system == nil {
			r.tx, system = r.db.Begin(false)
		}
		if system != nil {
			return nil
		}
		return r.begin()
	})
	if r.db == nil {
		_ = f.Close() // bbolt closes it on an error but not on a panic; nothing was written
	}
	if system != nil {
		return fmt.Errorf("snap: load %s: %w", r.path, system)
	}
	return r.damaged("database", "one that opens", err)
}

// begin finds the buckets and checks the database's own meta against the trailer's.
func (r *Reader) begin() error {
	meta, chunks := r.tx.Bucket(metaBucket), r.tx.Bucket(chunksBucket)
	if meta == nil || chunks == nil {
		return errors.New("no buckets")
	}
	want, err := r.meta.appendBinary(nil)
	if err != nil {
		return err
	}
	if !bytes.Equal(meta.Get(metaKey), want) {
		return errors.New("another meta than the trailer's")
	}
	stream := meta.Get(streamKey)
	if len(stream) != 16 {
		return fmt.Errorf("a stream length of %d bytes", len(stream))
	}
	r.bytes = binary.BigEndian.Uint64(stream)
	r.chunks = binary.BigEndian.Uint64(stream[8:])
	r.cursor = chunks.Cursor()
	return nil
}

// Meta returns what the snapshot is a snapshot of.
func (r *Reader) Meta() Meta { return r.meta }

// Read reads the stream. It returns io.EOF only behind the last byte of a complete stream, and a
// [*DamageError] if the file has changed since it was verified.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err == nil && r.db == nil {
		r.err = os.ErrClosed
	}
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.err = r.fill()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// fill copies the next chunk out of the mapped file, where it could still change, and checks it.
func (r *Reader) fill() error {
	if r.next == r.chunks && r.bytes == 0 {
		return io.EOF
	}
	var key, value []byte
	err := guard(func() error {
		if r.next == 0 {
			key, value = r.cursor.First()
		} else {
			key, value = r.cursor.Next()
		}
		r.buffer = append(r.buffer[:0], value...)
		key = bytes.Clone(key)
		return nil
	})
	what := fmt.Sprintf("chunk %d of %d", r.next, r.chunks)
	if err == nil {
		err = r.check(key)
	}
	if err != nil {
		err = r.damaged(what, "a whole chunk", err)
		r.store.condemn(r.entry, err)
		return err
	}
	r.rest = r.buffer[chunkCRCBytes:]
	r.next++
	r.bytes -= uint64(len(r.rest))
	return nil
}

// check tells what is wrong with the chunk in the buffer.
func (r *Reader) check(key []byte) error {
	if r.next == r.chunks || !bytes.Equal(key, chunkKey(r.next)) {
		return fmt.Errorf("key %x with %d bytes of the stream left", key, r.bytes)
	}
	if want := min(r.bytes, chunkBytes); uint64(len(r.buffer)) != want+chunkCRCBytes || want == 0 {
		return fmt.Errorf("%d bytes, want %d", len(r.buffer), want+chunkCRCBytes)
	}
	sum, want := castagnoli(r.buffer[chunkCRCBytes:]), binary.BigEndian.Uint32(r.buffer)
	if sum != want {
		return fmt.Errorf("checksum %08x, want %08x", sum, want)
	}
	return nil
}

// damaged makes a DamageError of an error found inside of the verified file.
func (r *Reader) damaged(what, expected string, err error) error {
	if err == nil {
		return nil
	}
	return &DamageError{File: r.path, Offset: -1, What: what, Expected: expected, Found: err.Error()}
}

// Close releases the file. It is idempotent.
func (r *Reader) Close() error {
	var err error
	if r.tx != nil {
		err = r.tx.Rollback()
		r.tx, r.cursor = nil, nil
	}
	if r.db != nil {
		err = errors.Join(err, guard(r.db.Close))
		r.db = nil
	}
	if e := r.entry; e != nil {
		r.entry = nil
		err = errors.Join(err, r.store.release(e))
	}
	return err
}

// faultsPanic makes a fault of mapped memory, which a failing disk causes, a panic of the calling
// goroutine instead of the end of the process. What it returns undoes that.
func faultsPanic() (undo func()) {
	before := debug.SetPanicOnFault(true)
	return func() { debug.SetPanicOnFault(before) }
}
