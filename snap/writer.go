package snap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
)

const (
	chunkBytes    = 256 << 10
	chunkCRCBytes = 4
	// batchChunks is how many chunks one bbolt transaction writes. It bounds what a Writer holds:
	// the batch, and the pages that bbolt makes of it, about 8 MiB together.
	batchChunks = 16
	// pageBytes is fixed so that a file does not depend on the machine that wrote it.
	pageBytes = 4096
	// lockTimeout bounds the wait for the lock that bbolt takes on its file. Nobody else has one.
	lockTimeout = time.Second
)

var (
	metaBucket   = []byte("meta")
	chunksBucket = []byte("chunks")
	metaKey      = []byte("meta")
	streamKey    = []byte("stream")
)

// Writer takes the stream of a state machine and makes a snapshot of it. It is used by one
// goroutine at a time; Commit may run on another one than the Writes did.
//
// Every Writer ends with Commit or Abort. The first error ends it by itself and leaves no file.
type Writer struct {
	store *Store
	meta  Meta
	temp  string
	db    *bbolt.DB // nil until the first batch is full

	chunk  []byte   // the chunk that is being filled, its checksum's place in front
	batch  [][]byte // full chunks that are not in the database yet
	spare  [][]byte // memory of chunks that are
	chunks uint64   // chunks in the database
	bytes  uint64   // length of the stream so far
	err    error    // why no more can be written; ErrFinished in the end
}

// Create begins a snapshot. It touches no disk; the file is begun when 4 MiB have been written or
// at Commit. It returns [ErrInvalid] for a meta that does not fit into a manifest.
func (s *Store) Create(meta Meta) (*Writer, error) {
	if _, err := meta.appendBinary(nil); err != nil {
		return nil, err
	}
	temp, err := s.tempName(meta.identity())
	if err != nil {
		return nil, err
	}
	return &Writer{store: s, meta: meta, temp: temp, chunk: newChunk()}, nil
}

// newChunk makes a chunk without data; it grows with what is written to it.
func newChunk() []byte { return make([]byte, chunkCRCBytes, 4<<10) }

// Write appends to the stream and keeps nothing of p. It costs a copy, and every 4 MiB a write to
// the operating system; it does not wait for the disk but for one small sync when the file is
// begun. It returns a [*WriteError], after which the Writer is finished.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n := len(p)
	for len(p) > 0 {
		room := chunkCRCBytes + chunkBytes - len(w.chunk)
		take := min(room, len(p))
		w.chunk = append(w.chunk, p[:take]...)
		p = p[take:]
		if take == room {
			if err := w.seal(); err != nil {
				return 0, err
			}
		}
	}
	w.bytes += uint64(n)
	return n, nil
}

// seal ends a full chunk, and a full batch with it.
func (w *Writer) seal() error {
	w.batch = append(w.batch, w.chunk)
	w.chunk = newChunkFrom(&w.spare)
	if len(w.batch) < batchChunks {
		return nil
	}
	if err := w.flush(); err != nil {
		return w.fail("write", err)
	}
	w.spare = append(w.spare, w.batch...)
	w.batch = w.batch[:0]
	return nil
}

func newChunkFrom(spare *[][]byte) []byte {
	if len(*spare) == 0 {
		return newChunk()
	}
	last := len(*spare) - 1
	chunk := (*spare)[last][:chunkCRCBytes]
	*spare = (*spare)[:last]
	return chunk
}

// flush writes the batch as one transaction.
func (w *Writer) flush() error {
	if w.db == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	err := guard(func() error {
		return w.db.Update(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket(chunksBucket)
			bucket.FillPercent = 1 // keys only grow: pages are never split again
			for i, chunk := range w.batch {
				binary.BigEndian.PutUint32(chunk, castagnoli(chunk[chunkCRCBytes:]))
				if err := bucket.Put(chunkKey(w.chunks+uint64(i)), chunk); err != nil {
					return err
				}
			}
			return nil
		})
	})
	w.chunks += uint64(len(w.batch))
	return err
}

func chunkKey(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

// begin makes the temporary file with its buckets. Nothing is synced before Commit does it for the
// whole file, except that bbolt syncs the first four pages of a new one. The array freelist always
// takes the first pages that fit, so the same stream makes the same file; the map takes any.
func (w *Writer) begin() error {
	return guard(func() error {
		db, err := bbolt.Open(w.temp, 0o600, &bbolt.Options{
			Timeout: lockTimeout, PageSize: pageBytes, NoSync: true, NoGrowSync: true,
			NoFreelistSync: true, FreelistType: bbolt.FreelistArrayType, NoStatistics: true,
		})
		if err != nil {
			return err
		}
		w.db = db
		return db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket(metaBucket)
			if err == nil {
				_, err = tx.CreateBucket(chunksBucket)
			}
			return err
		})
	})
}

// Commit ends the stream and returns when the snapshot is durable under its final name and listed;
// a snapshot of the same group, index and term is replaced. It reads the file once to hash it and
// syncs it. On an error there is no file, except that a failed sync of the directory leaves the
// complete snapshot listed: it may not survive a crash. The Writer is finished either way.
func (w *Writer) Commit() (Manifest, error) {
	if w.err != nil {
		return Manifest{}, w.err
	}
	if len(w.chunk) > chunkCRCBytes {
		w.batch = append(w.batch, w.chunk)
	}
	size, err := w.finish()
	if err != nil {
		return Manifest{}, w.fail("write", err)
	}
	m, err := w.prove(size)
	if err != nil {
		return Manifest{}, w.fail("write", err)
	}
	if err := w.store.publish(w.temp, m); err != nil {
		return Manifest{}, w.fail("rename", err)
	}
	w.end(ErrFinished)
	return m, nil
}

// Abort drops the snapshot and removes its file. After Commit it does nothing.
func (w *Writer) Abort() error {
	if w.err != nil {
		return nil
	}
	return w.end(ErrFinished)
}

// finish writes what is left and closes the database. It returns the bytes the database takes.
func (w *Writer) finish() (size int64, err error) {
	if err := w.flush(); err != nil {
		return 0, err
	}
	meta, err := w.meta.appendBinary(nil)
	if err != nil {
		return 0, err
	}
	stream := binary.BigEndian.AppendUint64(nil, w.bytes)
	stream = binary.BigEndian.AppendUint64(stream, w.chunks)
	err = guard(func() error {
		err := w.db.Update(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket(metaBucket)
			return errors.Join(bucket.Put(metaKey, meta), bucket.Put(streamKey, stream))
		})
		if err != nil {
			return err
		}
		return w.db.View(func(tx *bbolt.Tx) error {
			size = tx.Size()
			return nil
		})
	})
	if err != nil {
		return 0, err
	}
	db := w.db
	w.db = nil
	return size, db.Close()
}

// prove puts the trailer behind the first size bytes and makes the file durable under its
// temporary name: step 2 of the package comment.
func (w *Writer) prove(size int64) (m Manifest, err error) {
	f, err := os.OpenFile(w.temp, os.O_RDWR, 0)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	meta, err := w.meta.appendBinary(nil)
	if err != nil {
		return m, err
	}
	// Some systems extend the file beyond the pages that are in use.
	if err := f.Truncate(size); err != nil {
		return m, err
	}
	if _, err := f.WriteAt(meta, size); err != nil {
		return m, err
	}
	hashed := size + int64(len(meta))
	digest, err := hashFile(f, hashed)
	if err != nil {
		return m, err
	}
	footer := appendFooter(meta, digest, hashed+footerBytes)[len(meta):]
	if _, err := f.WriteAt(footer, hashed); err != nil {
		return m, err
	}
	if err := f.Sync(); err != nil {
		return m, &WriteError{Op: "sync", File: w.temp, Err: err}
	}
	return readTrailer(f)
}

// fail ends the Writer with err as the work of op and removes the file.
func (w *Writer) fail(op string, err error) error {
	if _, ok := errors.AsType[*WriteError](err); !ok && !errors.Is(err, ErrClosed) {
		err = &WriteError{Op: op, File: w.temp, Err: err}
	}
	return errors.Join(err, w.end(err))
}

// end releases everything; why is what later calls return.
func (w *Writer) end(why error) error {
	w.err = why
	w.chunk, w.batch, w.spare = nil, nil, nil
	var err error
	if db := w.db; db != nil {
		w.db = nil
		err = guard(db.Close)
	}
	if e := os.Remove(w.temp); e != nil && !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// guard calls into bbolt and turns a panic or a fault of its mapped memory into an error.
func guard(call func() error) (err error) {
	defer faultsPanic()()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("bbolt: %v", p)
		}
	}()
	return call()
}
