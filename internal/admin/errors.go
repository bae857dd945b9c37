package admin

// What an Error means for what was asked.
const (
	// NotDone: it was not done. The message says what stands where it has several steps.
	NotDone = "not done"
	// Unknown: it may have been done, in part or whole, or may yet be. Every request may be sent
	// again: what has been done already is not done twice.
	Unknown = "unknown"
)

// Kinds of errors that a program can tell apart.
const (
	KindInvalid    = "invalid"    // the request can never be done like this
	KindConflict   = "conflict"   // the membership is not the version that was named
	KindExists     = "exists"     // there is such a group already
	KindPending    = "pending"    // another change is under way; ask again later
	KindNoQuorum   = "no quorum"  // the new voters could not agree on anything now
	KindNoLeader   = "no leader"  // nobody leads the group; ask again later
	KindNotFound   = "not found"  // this node does not know the group or the path
	KindOverloaded = "overloaded" // too much under way on this node; ask again later, or another
	KindStopping   = "stopping"   // this node shuts down; ask another
	KindOther      = "other"      // see the message
	KindTimeout    = "timeout"    // not finished in time
	KindForbidden  = "forbidden"  // not from a web page
)

// Error says why a request was not done. It is the body of every answer with a status of 400 and
// above under /v1/, as {"error": …}, and the last line of a stream that went wrong.
type Error struct {
	Message string `json:"message"`
	Kind    string `json:"kind"`
	Outcome string `json:"outcome"`
}

func (e *Error) Error() string { return e.Message }

// Failure is the object around an Error.
type Failure struct {
	Error *Error `json:"error"`
}
