package wire

import "fmt"

// Status says what became of a request. Values are part of the protocol and never change.
type Status uint8

const (
	// OK: applied (a write) or answered (a read).
	OK Status = 0
	// Unknown: a write may have been applied, or may yet be. Every other status but OK means that
	// it is not applied and never will be.
	Unknown Status = 1
	// NotLeader: ask the leader named in the reply.
	NotLeader Status = 2
	// NoLeader: no leader was there in time.
	NoLeader Status = 3
	// Overloaded: too many requests are in flight; try again later.
	Overloaded Status = 4
	// TooLarge: the request exceeds the cluster's limit.
	TooLarge Status = 5
	// DiskFull: no room for more commands.
	DiskFull Status = 6
	// Closed: the node is shutting down; ask another.
	Closed Status = 7
	// Failed: the service stopped on this node; ask another.
	Failed Status = 8
	// Refused: the service does not know this command, or not in this form.
	Refused Status = 9
	// NoGroup: the group does not run on this node; it may on another, or it was removed.
	NoGroup Status = 10
	// SessionExpired: the session is not known any more, and this attempt is not applied. One
	// before it may have been.
	SessionExpired Status = 11
	// SequenceTooOld: the client has said that it needs no answer to the sequence any more. This
	// attempt is not applied; one before it may have been.
	SequenceTooOld Status = 12
	// SessionFull: too many answers of the session are kept; try again when earlier ones are
	// acknowledged.
	SessionFull Status = 13
	// Behind: of a read at an index, the node has not applied so much in time; ask another one.
	Behind Status = 14
)

var statusNames = [...]string{"ok", "unknown", "not leader", "no leader", "overloaded", "too large",
	"disk full", "closed", "failed", "refused", "no group", "session expired", "sequence too old",
	"session full", "behind"}

func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status %d", uint8(s))
}
