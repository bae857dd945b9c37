package admin

// States of a node, in Status.State.
const (
	// StateServing: clients are served here.
	StateServing = "serving"
	// StateNotReady: not at the moment; Status.NotReady says why.
	StateNotReady = "not ready"
	// StateWaiting: a node without data that waits until it is added to the cluster.
	StateWaiting = "waiting"
	// StateRefused: the others do not take this node for the member that it says it is, because its
	// data directory is another one; Status.NotReady has the command that helps.
	StateRefused = "refused"
	// StateRemoved: this node was a member and is none any more; it can be stopped.
	StateRemoved = "removed"
)

// Status is the answer to GET /v1/status: one node, as it sees itself and its groups.
type Status struct {
	Cluster       string `json:"cluster"`
	Version       string `json:"version"`
	PID           int    `json:"pid"`
	UptimeSeconds int64  `json:"uptime_seconds"`
	// Self is this node with the addresses of its own configuration.
	Self     Member `json:"self"`
	State    string `json:"state"`
	NotReady string `json:"not_ready,omitempty"` // why clients are not served here
	// Summary is over all groups, Groups are those asked for with ?group=N, else all.
	Summary Summary `json:"summary"`
	Groups  []Group `json:"groups"`
	Peers   []Peer  `json:"peers"`
	Log     Log     `json:"log"`
	Disk    Disk    `json:"disk"`
}

// Summary counts groups on one node.
type Summary struct {
	Groups   int `json:"groups"`    // have this node as a member
	Leading  int `json:"leading"`   // are led by this node
	NoLeader int `json:"no_leader"` // have no leader that this node knows
	Failed   int `json:"failed"`    // have stopped on this node
	NotReady int `json:"not_ready"` // do not serve here, for whatever reason
}

// Group is a group on one node.
type Group struct {
	Group         uint64     `json:"group"`
	Role          string     `json:"role"` // leader, follower, candidate, learner or failed
	Leader        uint64     `json:"leader"`
	Term          uint64     `json:"term"`
	Commit        uint64     `json:"commit"`
	Applied       uint64     `json:"applied"`
	Lag           uint64     `json:"lag"` // committed here and not applied yet
	FirstIndex    uint64     `json:"first_index"`
	LastIndex     uint64     `json:"last_index"`
	LogBytes      int64      `json:"log_bytes"`
	SnapshotIndex uint64     `json:"snapshot_index"`
	SnapshotBytes int64      `json:"snapshot_bytes"`
	Inflight      int64      `json:"inflight"` // commands admitted here and not finished
	Failed        string     `json:"failed,omitempty"`
	NotReady      string     `json:"not_ready,omitempty"`
	Membership    Membership `json:"membership"`
}

// Peer is the connection from one node to another.
type Peer struct {
	ID          uint64 `json:"id"`
	Address     string `json:"address"`
	Connected   bool   `json:"connected"`
	Incarnation uint64 `json:"incarnation,omitempty"`
	QueueBytes  int64  `json:"queue_bytes"`
	Dropped     uint64 `json:"dropped_frames"`
	LastError   string `json:"last_error,omitempty"`
}

// Log is the log of a node, over all its groups.
type Log struct {
	Segments    int     `json:"segments"`
	DiskBytes   int64   `json:"disk_bytes"`
	LiveBytes   int64   `json:"live_bytes"`
	Syncs       uint64  `json:"syncs"`
	SyncSeconds float64 `json:"sync_seconds"`
	Full        bool    `json:"full"`
}

// Disk is the file system that holds the data directory.
type Disk struct {
	Directory  string `json:"directory"`
	FreeBytes  int64  `json:"free_bytes"`  // for this process; -1 where the system does not tell
	TotalBytes int64  `json:"total_bytes"` // -1 likewise
}
