package vfs

import "errors"

// ErrLocked is returned by FS.Lock when somebody else, in this process or in another, holds the
// lock. Nothing has changed; the caller tells its user which directory is in use and gives up.
var ErrLocked = errors.New("vfs: file is locked by somebody else")

// ErrNoSpace is matched by every error that a full disk or an exhausted quota causes. A write that
// fails with it may have written a part of its bytes; the file and all files beside it stay usable,
// so the caller may free space and try again.
var ErrNoSpace = errors.New("vfs: no space left")

// noSpaceError keeps the host's own error, with its path and operation, and matches ErrNoSpace.
type noSpaceError struct{ err error }

func (e *noSpaceError) Error() string        { return e.err.Error() }
func (e *noSpaceError) Unwrap() error        { return e.err }
func (e *noSpaceError) Is(target error) bool { return target == ErrNoSpace }

// mapError gives the errors of the host the classes of this package.
func mapError(err error) error {
	if err == nil || !isNoSpace(err) {
		return err
	}
	return &noSpaceError{err: err}
}
