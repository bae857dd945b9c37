package snap

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Options of a [Store]. The zero value is ready to use.
type Options struct {
	// Logger takes one line for each damaged or removed file; nil discards them.
	Logger *slog.Logger
}

// Store is a directory of snapshots. Only one Store of one process may use a directory.
//
// All methods may be called from many goroutines at once. What a Store has handed out (Writers,
// Readers, Files) is used by one goroutine at a time.
type Store struct {
	dir    string
	logger *slog.Logger

	// names is held around every rename and unlink in dir together with the change of the index
	// that goes with it, so that the two agree; serialising this I/O is all it is for. It is
	// taken before mu.
	names sync.Mutex

	// mu guards the index and is never held across I/O.
	mu struct {
		sync.Mutex
		entries map[uint64]map[identity]*entry // by group
		temps   uint64                         // number of temporary names given out
		closed  bool
	}
}

// entry is a file under its final name. Its fields are guarded by Store.mu.
type entry struct {
	id       identity
	manifest Manifest     // zero when damage is set from the beginning
	damage   *DamageError // why the file is not to be used; nil for a good one
	pins     int          // open Readers and Files, which keep the file in its place
	doomed   bool         // to be removed with the last pin; no longer listed
}

// Open opens the store in dir and creates the directory if it does not exist. It removes what
// unfinished writes have left and reads the trailer of every snapshot, but no bodies. A file with
// a damaged trailer is logged and kept, is not listed, and Load of it returns its [*DamageError].
func Open(dir string, o Options) (*Store, error) {
	s := &Store{dir: dir, logger: o.Logger}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	s.mu.entries = make(map[uint64]map[identity]*entry)
	if err := makeDir(filepath.Clean(dir)); err != nil {
		return nil, fmt.Errorf("snap: open store: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("snap: open store: %w", err)
	}
	for _, file := range files {
		if err := s.discover(file.Name()); err != nil {
			return nil, fmt.Errorf("snap: open store: %w", err)
		}
	}
	// One sync makes the removals durable.
	if err := syncDir(dir); err != nil {
		return nil, fmt.Errorf("snap: open store: %w", err)
	}
	return s, nil
}

// makeDir makes a directory and its missing parents, and makes the name of each durable.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrNotExist) {
		if err = makeDir(filepath.Dir(dir)); err == nil {
			err = os.Mkdir(dir, 0o700)
		}
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// discover takes one name found in the directory: it removes a leftover, indexes a snapshot and
// leaves everything else alone.
func (s *Store) discover(name string) error {
	path := filepath.Join(s.dir, name)
	if strings.HasSuffix(name, tempSuffix) {
		if err := os.Remove(path); err != nil {
			return err
		}
		s.logger.Info("removed unfinished snapshot", "file", path)
		return nil
	}
	id, ok := parseName(name)
	if !ok {
		return nil
	}
	e := &entry{id: id}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	e.manifest, err = readTrailer(f)
	if err == nil {
		err = checkIdentity(path, e.manifest, id)
	}
	if damage, ok := errors.AsType[*DamageError](err); ok {
		s.logger.Warn("snapshot is damaged", "file", path, "error", damage)
		e.damage, err = damage, nil
	}
	if err != nil {
		// One bad sector in an old snapshot must not take the others along.
		s.logger.Warn("snapshot cannot be read", "file", path, "error", err)
		e.damage = &DamageError{File: path, Offset: -1, What: "trailer",
			Expected: "one that can be read", Found: err.Error()}
	}
	s.putLocked(e)
	return nil
}

// checkIdentity compares what a file says of itself with what its name says.
func checkIdentity(path string, m Manifest, id identity) error {
	if m.identity() == id {
		return nil
	}
	return &DamageError{File: path, Offset: -1, What: "group, index and term of the name",
		Expected: id.name(), Found: m.identity().name()}
}

// List returns the snapshots of a group, the newest first. It tells what the trailers say and does
// not verify the bodies. Damaged files, as far as they are known to be, are left out.
func (s *Store) List(group uint64) []Manifest {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := s.goodLocked(group)
	manifests := make([]Manifest, len(entries))
	for i, e := range entries {
		manifests[i] = e.manifest
	}
	return manifests
}

// Groups returns the groups that have a file in the store, damaged ones included, in order.
func (s *Store) Groups() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var groups []uint64
	for group, entries := range s.mu.entries {
		for _, e := range entries {
			if !e.doomed {
				groups = append(groups, group)
				break
			}
		}
	}
	slices.Sort(groups)
	return groups
}

// Close ends the store. Open Readers and Files stay usable and remove a pruned file when they are
// closed; open Writers can only be aborted. Close is idempotent.
func (s *Store) Close() error {
	s.names.Lock() // waits for a rename or unlink under way
	defer s.names.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.closed = true
	return nil
}

// putLocked lists an entry in the place of one with the same identity. Open calls it before anybody
// else knows the store.
func (s *Store) putLocked(e *entry) {
	entries := s.mu.entries[e.id.group]
	if entries == nil {
		entries = make(map[identity]*entry)
		s.mu.entries[e.id.group] = entries
	}
	entries[e.id] = e
}

// goodLocked returns the usable entries of a group, the newest first.
func (s *Store) goodLocked(group uint64) []*entry {
	var entries []*entry
	for _, e := range s.mu.entries[group] {
		if e.damage == nil && !e.doomed {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b *entry) int { return newer(a.id, b.id) })
	return entries
}

// tempName returns the path of a new temporary file, different from all others of this store.
func (s *Store) tempName(id identity) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return "", ErrClosed
	}
	s.mu.temps++
	name := fmt.Sprintf("%s.%d%s", id.name(), s.mu.temps, tempSuffix)
	return filepath.Join(s.dir, name), nil
}

// publish gives a complete, synced file its final name and lists it: steps 3 and 4 of the package
// comment. It replaces a snapshot of the same group, index and term.
func (s *Store) publish(temp string, m Manifest) error {
	s.names.Lock()
	defer s.names.Unlock()
	if s.isClosed() {
		return ErrClosed
	}
	id := m.identity()
	if err := os.Rename(temp, filepath.Join(s.dir, id.name())); err != nil {
		return &WriteError{Op: "rename", File: temp, Err: err}
	}
	s.mu.Lock()
	s.putLocked(&entry{id: id, manifest: m})
	s.mu.Unlock()
	// When this fails the file is complete and listed, but a crash may take it away: the caller
	// is not told that it is durable.
	if err := syncDir(s.dir); err != nil {
		return &WriteError{Op: "sync", File: s.dir, Err: err}
	}
	return nil
}

func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.closed
}

// syncDir makes the names of a directory durable. Windows has no such call and keeps its names
// in a journal.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
