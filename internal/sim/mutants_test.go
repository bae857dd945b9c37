package sim_test

import (
	"slices"

	"github.com/connectraft/connect/wal"
)

// mutant is a fault of the product that the simulation puts in on purpose. Only this package can:
// each is a place in the twins, or in what they give to the cores and the log.
type mutant int

const (
	noMutant mutant = iota
	skipSync
	forgetVote
	forgetTerm
	respondBeforeSync
	countBeforeSync
	forgetTruncation
	acknowledgeBeforeRestore
	skipRestore
	applyTwice
	localTime
	readBeforeApply
	readWithoutRound
	partialSnapshot
	retryUnknown
	ignoreFence
	forgetSnapshotReport
	mutants
)

func (m mutant) String() string {
	return [...]string{"none", "skip the sync", "vote not persisted", "term not persisted",
		"responses before the sync", "own append counted before the sync",
		"truncation after a conflict forgotten", "snapshot acknowledged before the restore",
		"restore skipped", "apply twice", "local time in the state machine",
		"reads before the index is applied", "reads without a round", "snapshot lacks a part",
		"unknown commands tried again", "fence ignored", "end of a snapshot transfer not reported",
	}[m]
}

func (w *world) is(m mutant) bool { return w.mutant == m }

// mutateUpdates changes what the log is given.
func (w *world) mutateUpdates(a *appender) {
	for i := range a.updates {
		u := &a.updates[i]
		switch {
		case w.is(forgetVote):
			u.State = &wal.State{Term: u.State.Term, Commit: u.State.Commit}
		case w.is(forgetTerm):
			u.State = nil
		case w.is(forgetTruncation) && len(u.Entries) > 0 && u.Mark == nil:
			last := a.p.wal.Group(u.Group).LastIndex()
			if n := u.Entries[0].GetIndex(); n <= last {
				u.Entries = u.Entries[min(uint64(len(u.Entries)), last+1-n):]
			}
		}
	}
	a.updates = slices.DeleteFunc(a.updates, func(u wal.Update) bool {
		return u.State == nil && u.Mark == nil && len(u.Entries) == 0
	})
}

// mutateSnapshot changes a snapshot that was cut.
func (w *world) mutateSnapshot(s *snapshot) {
	if w.is(partialSnapshot) && len(s.body) > 16 {
		s.body = s.body[:16]
	}
}
