package wal

import "go.etcd.io/raft/v3/raftpb"

// State is the hard state of a raft group.
type State struct{ Term, Vote, Commit uint64 }

// merge returns the state of a group that is known to have had both, in whatever order.
func (s State) merge(other State) State {
	if other.Term > s.Term || other.Term == s.Term && s.Vote == 0 {
		s.Term, s.Vote = other.Term, other.Vote
	}
	s.Commit = max(s.Commit, other.Commit)
	return s
}

// Mark says where the log of a group begins: behind Index. Everything up to it is in a snapshot.
type Mark struct {
	Index, Term uint64
	// ConfState is the membership at Index when the mark was given to Append. Compact moves Index
	// and Term and keeps it. The log keeps the pointer; nobody changes it any more.
	ConfState *raftpb.ConfState
}

// Update is what one Ready of one group has to persist. It becomes one frame, so it is atomic.
type Update struct {
	Group uint64
	// State replaces the hard state; nil leaves it. The term does not go back, and within a term a
	// vote that is not 0 stands.
	State *State
	// Mark, if not nil, empties the log of the group and lets it begin behind the mark: a
	// snapshot that was installed, or the beginning of a new group. Entries come after it.
	Mark *Mark
	// Entries are contiguous. An entry at index i discards everything at i and above that the log
	// had. The first index is at most one above the last index of the log and above the mark. The
	// log keeps the pointers and writes large data from where it lies; nobody changes the entries
	// or their data any more, from the call on.
	Entries []*raftpb.Entry
}
