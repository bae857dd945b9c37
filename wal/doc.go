// Package wal is the write-ahead log that all raft groups of a process share.
//
// One [Log] owns one directory. An append of any number of groups is one write and at most one
// sync; what one group gives in one [Update] (entries, hard state, the mark of a snapshot) is one
// frame on disk and so is there whole or not at all. A [Group] reads the log of one raft group
// with the semantics that raft.Storage asks for.
//
// What the log promises:
//
//   - What a synced [Log.Append] returned for is there after any crash. Term, vote and commit
//     never go back, and a suffix that an append has discarded never comes back.
//   - Damage in what was acknowledged is never cut and never read as data: it is a [DamageError],
//     from [Open] or, with Options.Repair, from [Group.Damage] of the groups that it hits.
//   - A failed write or sync ends the log for the life of the process ([ErrPoisoned]); a full
//     disk does not ([ErrDiskFull]).
//
// What it does not promise: the last append before a crash, if it was not synced or its sync had
// not returned, is there as a prefix of its updates or not at all; and a log that was not closed
// and loses exactly its newest bytes to damage, behind everything that a later frame or the
// superblock confirms, cannot be told from a torn write.
//
// The byte format and the argument for every step on disk are in docs/wal-format.md.
package wal
