package wal

import (
	"errors"
	"fmt"
)

var (
	// ErrLocked is what Open returns when another Log has the directory, in this process or in
	// another one. Nothing was read or changed.
	ErrLocked = errors.New("wal: directory is locked by another process")
	// ErrPoisoned matches the error of every call after a write or a sync went wrong: what the
	// disk has of the last append is unknown, so the log takes nothing more. The text and the
	// chain have the first cause. The caller gives up leadership and ends the process; the next
	// Open finds out what survived.
	ErrPoisoned = errors.New("wal: log is poisoned by an earlier error")
	// ErrDiskFull is what Append and Compact return when there is no room and nothing was
	// written. The log stands as before; the same call may be made again and succeeds when space
	// has come back. The error of a log that cannot open the file of its next segment, because too
	// many files are open, matches it too: the caller does the same.
	ErrDiskFull = errors.New("wal: no space left on the device")
	// ErrClosed is what calls return after Close.
	ErrClosed = errors.New("wal: log is closed")
	// ErrInvalid matches the error of a call that contradicts the log: entries that leave a gap
	// or lie before the mark, an update over a size limit, a repair that does not fit. Nothing was
	// written. It is a bug of the caller, or for Mend an answer of a peer that does not fit.
	ErrInvalid = errors.New("wal: invalid argument")
)

// handlesError is ErrDiskFull for want of a file handle, with a text that says so.
type handlesError struct{ err error }

func (e *handlesError) Error() string        { return "wal: no file handle left: " + e.err.Error() }
func (e *handlesError) Unwrap() error        { return e.err }
func (e *handlesError) Is(target error) bool { return target == ErrDiskFull }

// IdentityError is what Open returns for the log of another node or cluster. Nothing was changed.
type IdentityError struct {
	Dir         string
	Want, Found Identity
}

func (e *IdentityError) Error() string {
	return fmt.Sprintf("wal: %s belongs to node %d of cluster %q, not to node %d of cluster %q",
		e.Dir, e.Found.NodeID, e.Found.ClusterID, e.Want.NodeID, e.Want.ClusterID)
}

// DamageError says what of a log was once durable and is not there any more. Open returns it
// unless Options.Repair is set, and then has changed nothing; Group.Damage returns it for a group
// that is fenced.
type DamageError struct {
	// File is the name of the file inside the log's directory, and Offset the first bad byte.
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	// Group is the raft group that is hit; 0: no group can be told from another any more.
	Group uint64 `json:"group"`
	// FirstIndex to LastIndex are the entries that are not there. LastIndex 0: how far the hole
	// reaches is not known.
	FirstIndex uint64 `json:"first_index"`
	LastIndex  uint64 `json:"last_index"`
	// Floor is the highest index that the group is known to have held durably.
	Floor uint64 `json:"floor"`
	// Resume is the index of the first intact entry behind the hole, which Mend must be shown to
	// fit; 0: nothing stands behind it.
	Resume uint64 `json:"resume"`
	// Expected and Found describe the bad place.
	Expected string `json:"expected"`
	Found    string `json:"found"`
}

func (e *DamageError) Error() string {
	if e.Group == 0 {
		return fmt.Sprintf("wal: damage in %s at offset %d: the log is unreadable: expected %s,"+
			" found %s", e.File, e.Offset, e.Expected, e.Found)
	}
	last := "?"
	if e.LastIndex != 0 {
		last = fmt.Sprint(e.LastIndex)
	}
	return fmt.Sprintf("wal: damage in %s at offset %d: group %d lost entries %d to %s (floor %d):"+
		" expected %s, found %s", e.File, e.Offset, e.Group, e.FirstIndex, last, e.Floor,
		e.Expected, e.Found)
}
