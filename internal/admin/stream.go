package admin

import "time"

// Progress tells what a change is doing.
type Progress struct {
	Step    string           `json:"step"`
	Members []MemberProgress `json:"members,omitempty"` // those that the step waits for
}

// MemberProgress is how far a member is from the leader.
type MemberProgress struct {
	ID        uint64 `json:"id"`
	Connected bool   `json:"connected"`
	Entries   uint64 `json:"entries_behind"`
	Bytes     int64  `json:"bytes_behind"`
	Snapshot  uint64 `json:"snapshot,omitempty"` // index of the one that it is being sent
}

// Event is one line of the answer to GET /v1/events: something that has happened on a node. Empty
// lines in between say that the connection lives.
type Event struct {
	Node uint64    `json:"node"`
	Time time.Time `json:"time"`
	// Kind says what; the list is in docs/operations.md. Fields that it does not name are zero.
	Kind   string        `json:"kind"`
	Group  uint64        `json:"group,omitempty"` // 0 = the node as a whole
	Peer   uint64        `json:"peer,omitempty"`  // the other node, or the leader
	Term   uint64        `json:"term,omitempty"`
	Index  uint64        `json:"index,omitempty"`
	Bytes  int64         `json:"bytes,omitempty"`
	Took   time.Duration `json:"took_ns,omitempty"`
	Detail string        `json:"detail,omitempty"`
	// Missed is how many events before this one were dropped because nobody read them in time.
	Missed uint64 `json:"missed,omitempty"`
}
