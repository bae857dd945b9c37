package wal

import (
	"errors"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

var errUnfinished = errors.New("wal: the package is being written")

// Log is the write-ahead log of one process.
type Log struct{}

// Open opens or creates the log.
func Open(o Options) (*Log, error) { return nil, errUnfinished }

// Identity returns whose log it is.
func (l *Log) Identity() Identity { return Identity{} }

// Groups returns the ids of the groups that have state, sorted.
func (l *Log) Groups() []uint64 { return nil }

// Group returns the log of a group, never nil.
func (l *Log) Group(id uint64) *Group { return &Group{} }

// Append writes updates in order as one write.
func (l *Log) Append(updates []Update, sync bool) error { return errUnfinished }

// Compact says that the entries of a group up to index are not needed any more.
func (l *Log) Compact(group, index uint64) error { return errUnfinished }

// RemoveGroup forgets a group.
func (l *Log) RemoveGroup(group uint64) error { return errUnfinished }

// Mend fills the hole of a fenced group.
func (l *Log) Mend(group uint64, entries []*raftpb.Entry) error { return errUnfinished }

// Unfence lifts the fence of a group.
func (l *Log) Unfence(group uint64) error { return errUnfinished }

// SyncStarted returns when the sync in flight began; the zero time if there is none.
func (l *Log) SyncStarted() time.Time { return time.Time{} }

// Full says that the disk has no room for the next segment.
func (l *Log) Full() bool { return false }

// Err returns the error that poisoned the log.
func (l *Log) Err() error { return nil }

// Stats returns a picture of the log.
func (l *Log) Stats() Stats { return Stats{} }

// Close ends the log.
func (l *Log) Close() error { return errUnfinished }

// Group reads the log of one raft group.
type Group struct{}

// State returns the hard state.
func (g *Group) State() State { return State{} }

// Mark returns where the log begins.
func (g *Group) Mark() Mark { return Mark{} }

// Entries returns entries [lo, hi).
func (g *Group) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) { return nil, errUnfinished }

// Term returns the term of the entry at index.
func (g *Group) Term(index uint64) (uint64, error) { return 0, errUnfinished }

// FirstIndex returns the index of the first entry.
func (g *Group) FirstIndex() uint64 { return 0 }

// LastIndex returns the index of the last entry.
func (g *Group) LastIndex() uint64 { return 0 }

// Damage is not nil for a group that is fenced.
func (g *Group) Damage() *DamageError { return nil }
