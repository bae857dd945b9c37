package node

import (
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/wal"
)

// storage is what raft reads: the group's log, and its snapshots. Raft calls it on the worker only.
type storage struct {
	*wal.Group
	snapshots *snapshots
	// The state raft begins with.
	hardState wal.State
	confState *pb.ConfState
}

var _ raft.Storage = (*storage)(nil)

// InitialState returns the state of the log at the start of this life.
func (s *storage) InitialState() (*pb.HardState, *pb.ConfState, error) {
	return &pb.HardState{Term: new(s.hardState.Term), Vote: new(s.hardState.Vote),
		Commit: new(s.hardState.Commit)}, s.confState, nil
}

// FirstIndex returns the index of the first entry in the log.
func (s *storage) FirstIndex() (uint64, error) { return s.Group.FirstIndex(), nil }

// LastIndex returns the index of the last entry in the log.
func (s *storage) LastIndex() (uint64, error) { return s.Group.LastIndex(), nil }

// Snapshot returns the manifest of the newest snapshot.
func (s *storage) Snapshot() (*pb.Snapshot, error) { return s.snapshots.raftSnapshot() }
