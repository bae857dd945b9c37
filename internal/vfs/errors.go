package vfs

import "errors"

// ErrLocked is returned by FS.Lock when somebody else, in this process or in another, holds the
// lock. Nothing has changed; the caller tells its user which directory is in use and gives up.
var ErrLocked = errors.New("vfs: file is locked by somebody else")

// ErrNoSpace is matched by every error that a full disk or an exhausted quota causes. A write that
// fails with it may have written a part of its bytes; the file and all files beside it stay usable,
// so the caller may free space and try again.
var ErrNoSpace = errors.New("vfs: no space left")

// ErrNoHandles is matched by the error of opening a file when the process or the host has as many
// open as it may have. Nothing has happened; the caller may try again when others are closed.
var ErrNoHandles = errors.New("vfs: no file handle left")

// classError keeps the host's own error, with its path and operation, and matches its class.
type classError struct{ err, class error }

func (e *classError) Error() string        { return e.err.Error() }
func (e *classError) Unwrap() error        { return e.err }
func (e *classError) Is(target error) bool { return target == e.class }

// mapError gives the errors of the host the classes of this package.
func mapError(err error) error {
	switch {
	case err == nil:
		return nil
	case isNoSpace(err):
		return &classError{err: err, class: ErrNoSpace}
	case isNoHandles(err):
		return &classError{err: err, class: ErrNoHandles}
	}
	return err
}
