package snap

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound is returned by Load, OpenFile and Remove for a snapshot the store does not
	// have. Nothing has changed; List tells what there is.
	ErrNotFound = errors.New("snap: no such snapshot")
	// ErrClosed is returned by all methods of a closed Store, and by Commit of a Writer whose
	// store was closed meanwhile; the unfinished file has been removed.
	ErrClosed = errors.New("snap: store is closed")
	// ErrFinished is returned by a Writer that was committed, aborted or has failed before.
	ErrFinished = errors.New("snap: writer is finished")
	// ErrInvalid is returned for a Meta that cannot be written and for bytes that are no
	// manifest. Nothing was written. The caller's value is wrong; trying again does not help.
	ErrInvalid = errors.New("snap: invalid manifest")
	// ErrMismatch is returned by Receive for a body that is not what the manifest promised.
	// Nothing of it is kept; the sender may try again.
	ErrMismatch = errors.New("snap: body does not match its manifest")
)

// DamageError reports a snapshot file that is not what was once written: it was cut short, changed
// on the disk, or cannot be read as what it claims to be. It is returned by Load, OpenFile and by
// the Reader. Nothing of the file may be used. The file stays where it is, but the store no longer
// lists it; the caller goes on with an older snapshot or asks another node for one.
type DamageError struct {
	// File is the path of the damaged file.
	File string
	// Offset is the byte of the file at which the damaged part begins, or -1 where the damage
	// has no single place.
	Offset int64
	// What names the part that was checked.
	What string
	// Expected and Found are the two values that should have been the same.
	Expected, Found string
}

func (e *DamageError) Error() string {
	place := ""
	if e.Offset >= 0 {
		place = fmt.Sprintf(" at offset %d", e.Offset)
	}
	return fmt.Sprintf("snap: %s is damaged%s: %s: expected %s, found %s",
		e.File, place, e.What, e.Expected, e.Found)
}

// WriteError reports that a snapshot file could not be written. It is returned by Write, Commit
// and Receive. Nothing of the file is left behind and all other snapshots are untouched.
// errors.Is(err, syscall.ENOSPC) tells a full disk, after which a later snapshot may succeed.
type WriteError struct {
	// Op is what was attempted: create, write, sync, rename.
	Op string
	// File is the path of the unfinished file.
	File string
	// Err is the error of the operating system or of bbolt.
	Err error
}

func (e *WriteError) Error() string { return fmt.Sprintf("snap: %s %s: %v", e.Op, e.File, e.Err) }

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Err }
