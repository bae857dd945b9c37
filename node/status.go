package node

// Status is what a group looks like on this node at one moment.
type Status struct {
	Group         uint64 `json:"group"`
	ID            uint64 `json:"id"`
	Role          string `json:"role"` // leader, follower, candidate, learner, failed or absent
	Leader        uint64 `json:"leader"`
	Term          uint64 `json:"term"`
	Commit        uint64 `json:"commit"`
	Applied       uint64 `json:"applied"`
	FirstIndex    uint64 `json:"first_index"`
	LastIndex     uint64 `json:"last_index"`
	SnapshotIndex uint64 `json:"snapshot_index"`
	SnapshotBytes int64  `json:"snapshot_bytes"`   // of the newest snapshot
	Inflight      int64  `json:"inflight"`         // commands admitted and not finished
	Resting       bool   `json:"resting"`          // idle: it costs nothing until something is asked
	Failed        string `json:"failed,omitempty"` // why the group stopped on this node
	// Absent says why this node has no part in the group, and what to do: it was removed, it is
	// refused, or it waits to be added. Ready returns the same as an error.
	Absent string `json:"absent,omitempty"`
}
