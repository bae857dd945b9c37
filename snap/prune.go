package snap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Prune keeps the newest keep snapshots of a group, at least one, and removes the older ones, the
// damaged among them included. A damaged file newer than those stays for a look at it until the
// kept ones have passed it. A file that is being read or transferred is no longer listed and
// removed when its last user closes it.
func (s *Store) Prune(group uint64, keep int) error {
	if keep < 1 {
		return fmt.Errorf("snap: prune group %d: keep is %d, want at least 1", group, keep)
	}
	s.mu.Lock()
	good := s.goodLocked(group)
	var victims []*entry
	if len(good) >= keep {
		oldest := good[keep-1].id
		for id, e := range s.mu.entries[group] {
			if newer(oldest, id) < 0 {
				victims = append(victims, e)
			}
		}
	}
	s.mu.Unlock()
	if err := s.remove(victims); err != nil {
		return fmt.Errorf("snap: prune group %d: %w", group, err)
	}
	return nil
}

// Remove removes a snapshot, good or damaged; one that is in use is no longer listed and removed
// when its last user closes it. It returns [ErrNotFound] if there is none.
func (s *Store) Remove(group, index uint64) error {
	victims := s.entries(group, func(id identity) bool { return id.index == index })
	if len(victims) == 0 {
		return fmt.Errorf("%w: group %d, index %d", ErrNotFound, group, index)
	}
	if err := s.remove(victims); err != nil {
		return fmt.Errorf("snap: remove group %d, index %d: %w", group, index, err)
	}
	return nil
}

// RemoveGroup removes all snapshots of a group as [Store.Remove] does. A group without any is no
// error.
func (s *Store) RemoveGroup(group uint64) error {
	victims := s.entries(group, func(identity) bool { return true })
	if err := s.remove(victims); err != nil {
		return fmt.Errorf("snap: remove group %d: %w", group, err)
	}
	return nil
}

// entries returns those of a group that are not already on their way out.
func (s *Store) entries(group uint64, want func(identity) bool) []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var entries []*entry
	for id, e := range s.mu.entries[group] {
		if want(id) && !e.doomed {
			entries = append(entries, e)
		}
	}
	return entries
}

// remove unlinks what is not in use and marks the rest for its last user. The removals are durable
// on return.
func (s *Store) remove(victims []*entry) error {
	if len(victims) == 0 {
		return nil
	}
	s.names.Lock()
	defer s.names.Unlock()
	if s.isClosed() {
		return ErrClosed
	}
	return s.unlinkNamed(victims)
}

// unlinkNamed is remove for one who holds names.
func (s *Store) unlinkNamed(victims []*entry) error {
	var errs []error
	for _, e := range victims {
		if !s.takeOut(e) {
			continue
		}
		path := filepath.Join(s.dir, e.id.name())
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		s.logger.Info("removed snapshot", "file", path)
	}
	return errors.Join(append(errs, syncDir(s.dir))...)
}

// takeOut takes e out of the index if its file may be unlinked now. Otherwise e is in use and
// doomed, or a newer file has its name.
func (s *Store) takeOut(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.entries[e.id.group][e.id] != e {
		return false
	}
	if e.pins > 0 {
		e.doomed = true
		return false
	}
	delete(s.mu.entries[e.id.group], e.id)
	if len(s.mu.entries[e.id.group]) == 0 {
		delete(s.mu.entries, e.id.group)
	}
	return true
}

// pin finds a snapshot and keeps its file in place until release. Of two terms with the same
// index, of which only one can be committed, it takes the newer.
func (s *Store) pin(group, index uint64) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return nil, ErrClosed
	}
	var found *entry
	for id, e := range s.mu.entries[group] {
		if id.index == index && !e.doomed &&
			(found == nil || newer(id, found.id) < 0) {
			found = e
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w: group %d, index %d", ErrNotFound, group, index)
	}
	if found.damage != nil {
		return nil, found.damage
	}
	found.pins++
	return found, nil
}

// release undoes pin and removes the file if that was waited for. Unlike remove it does so in a
// closed store too.
func (s *Store) release(e *entry) error {
	s.mu.Lock()
	e.pins--
	last := e.doomed && e.pins == 0
	s.mu.Unlock()
	if !last {
		return nil
	}
	s.names.Lock()
	defer s.names.Unlock()
	return s.unlinkNamed([]*entry{e})
}

// condemn records damage found in a file, so that it is no longer listed.
func (s *Store) condemn(e *entry, err error) {
	damage, ok := errors.AsType[*DamageError](err)
	if !ok {
		return
	}
	s.mu.Lock()
	first := e.damage == nil
	e.damage = damage
	s.mu.Unlock()
	if first {
		s.logger.Warn("snapshot is damaged", "file", damage.File, "error", damage)
	}
}
