package node

// Status is what a group looks like on this node at one moment.
type Status struct {
	Group         uint64 `json:"group"`
	ID            uint64 `json:"id"`
	Role          string `json:"role"` // leader, follower, candidate, learner or failed
	Leader        uint64 `json:"leader"`
	Term          uint64 `json:"term"`
	Commit        uint64 `json:"commit"`
	Applied       uint64 `json:"applied"`
	FirstIndex    uint64 `json:"first_index"`
	LastIndex     uint64 `json:"last_index"`
	SnapshotIndex uint64 `json:"snapshot_index"`
	Inflight      int64  `json:"inflight"`         // commands admitted and not finished
	Failed        string `json:"failed,omitempty"` // why the group stopped on this node
}
