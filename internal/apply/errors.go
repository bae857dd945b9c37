package apply

import (
	"errors"
	"fmt"
)

// Refusals of commands of sessions. They are answers, the same on every replica, and the command
// was not applied by the submission that they answer. An earlier submission of the same sequence
// may have been.
var (
	// ErrSessionExpired: the session does not exist (any more). What it knew of its commands is
	// gone, so nothing of it can be repeated safely; the caller opens another session.
	ErrSessionExpired = errors.New("session expired: it was closed, not used for long, or made " +
		"room for newer ones; open another")
	// ErrSequenceTooOld: the session's owner has acknowledged the answer to this sequence, or given
	// it up, and the answer is no longer kept.
	ErrSequenceTooOld = errors.New("sequence too old: the session has acknowledged it")
	// ErrSessionFull: the session has as many answers kept as it may have; the caller acknowledges
	// answers that it has and repeats the same sequence.
	ErrSessionFull = errors.New("session full: too many answers are not acknowledged")
)

// Refusals of commands of the catalog, the same on every replica.
var (
	// ErrGroupExists: a group of that id exists already.
	ErrGroupExists = errors.New("the group exists already")
	// ErrGroupRemoved: a group of that id was removed. The id never returns; take another one.
	ErrGroupRemoved = errors.New("a group of this id was removed, and ids never return")
	// ErrNoGroup: no group of that id was ever created.
	ErrNoGroup = errors.New("no such group")
	// ErrGroupID: the id is not one that a group can be created or removed under.
	ErrGroupID = errors.New("invalid id of a group: want 2 to 2^63")
	// ErrTooManyGroups: there is no room for another group.
	ErrTooManyGroups = errors.New("too many groups")
)

// ErrMalformed says that an entry or a snapshot is not of a format that this version reads. The
// group cannot go on on this node.
var ErrMalformed = errors.New("apply: malformed")

// otherFormat is the error of what is in another format than this version reads.
func otherFormat(what string, found, read byte) error {
	return fmt.Errorf("%w: %s of format %d, this version reads format %d: another version has "+
		"written it", ErrMalformed, what, found, read)
}
