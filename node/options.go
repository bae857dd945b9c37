package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/connectraft/connect/statemachine"
)

// Member is one node of a cluster. Client and Admin are for whoever asks where a member is; this
// package does not use them. Incarnation names the directory that the member is known with: 0 until
// it is registered, and ignored in what a caller passes in.
type Member struct {
	ID          uint64 `json:"id"`      // not 0
	Address     string `json:"address"` // host:port of the peer listener
	Client      string `json:"client,omitempty"`
	Admin       string `json:"admin,omitempty"`
	Incarnation uint64 `json:"incarnation,omitempty"`
}

// Options say how a node runs. A zero value of any field but the first four means its default.
type Options struct {
	ClusterID string // 1 to 63 bytes; nodes of other clusters are refused
	ID        uint64 // this node; must be among Members
	Dir       string // data directory, of this node alone; created when missing
	// Members has this node, and the voters that a fresh data directory starts with. Later the
	// group's own membership counts, which Group.Change changes.
	Members []Member
	// Join says that this node is none of the first voters: a fresh data directory waits until
	// Group.Change adds it. Members are then this node and, if wanted, others that it can ask.
	// A directory with something in it goes on where it was, whatever Join says.
	Join bool

	// Machines makes the state machine of a group that CreateGroup has created, in its initial
	// state; it is called once for each such group and life of the node, for several groups at a
	// time. nil = groups are started by StartGroup only.
	Machines func(group uint64) (statemachine.Machine, error)

	// PeerListener accepts the other nodes; nil = listen on this member's address. The node
	// closes it.
	PeerListener net.Listener

	Tick           time.Duration // raft's unit of time; default 100 ms
	ElectionTicks  int           // a follower campaigns after 1 to 2 times this; default 10
	HeartbeatTicks int           // default 1

	// A node whose log has had a sync under way for so long hands its leaderships over and stands
	// for no election until the sync returns; default one election timeout.
	SyncTimeout time.Duration

	// A step of a stage that takes longer is told to the subscribers of events; default one tick,
	// because that is what the timers of raft are counted in.
	SlowStage time.Duration

	SegmentBytes int64 // size of a file of the log; default 64 MiB
	CacheBytes   int64 // recent log entries kept in memory, over all groups; default 64 MiB

	// A snapshot is cut when so many log entries, or bytes of them, were applied since the last.
	SnapshotEntries uint64 // default 10,000
	SnapshotBytes   int64  // default 64 MiB

	CommandBytes     int   // largest command; default 1 MiB
	EntryBytes       int   // commands are packed into log entries up to this size; default 1 MiB
	InflightCommands int   // commands admitted and not finished, per group; default 65,536
	InflightBytes    int64 // the same in bytes; default 64 MiB

	NodeInflightCommands int   // the same for all groups together; default 4 times that of a group
	NodeInflightBytes    int64 // default 4 times that of a group

	Logger *slog.Logger // nil = no log
}

// commandBytesMax keeps an entry well within a frame of the transport.
const commandBytesMax = 32 << 20

// withDefaults returns the options with every default filled in.
func (o Options) withDefaults() Options {
	setDefault(&o.Tick, 100*time.Millisecond)
	setDefault(&o.ElectionTicks, 10)
	setDefault(&o.HeartbeatTicks, 1)
	setDefault(&o.SyncTimeout, time.Duration(o.ElectionTicks)*o.Tick)
	setDefault(&o.SlowStage, o.Tick)
	setDefault(&o.SegmentBytes, 64<<20)
	setDefault(&o.CacheBytes, 64<<20)
	setDefault(&o.SnapshotEntries, 10_000)
	setDefault(&o.SnapshotBytes, 64<<20)
	setDefault(&o.CommandBytes, 1<<20)
	setDefault(&o.EntryBytes, 1<<20)
	setDefault(&o.InflightCommands, 1<<16)
	setDefault(&o.InflightBytes, 64<<20)
	setDefault(&o.NodeInflightCommands, min(4*o.InflightCommands, inflightCommandsMax))
	setDefault(&o.NodeInflightBytes, min(4*o.InflightBytes, inflightBytesMax))
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate returns every problem of the options, not just the first.
func (o Options) validate() error {
	var errs []error
	bad := func(field string, value any, want string) {
		errs = append(errs, fmt.Errorf("node: %s = %v: want %s", field, value, want))
	}
	if len(o.ClusterID) == 0 || len(o.ClusterID) > 63 {
		bad("ClusterID", o.ClusterID, "1 to 63 bytes")
	}
	if o.Dir == "" {
		bad("Dir", o.Dir, "a directory")
	}
	if _, ok := o.member(o.ID); !ok {
		bad("ID", o.ID, "the id of one of Members")
	}
	seen := map[uint64]bool{}
	for _, m := range o.Members {
		if m.ID == 0 || m.ID > 1<<63 || seen[m.ID] {
			bad("Members", m.ID, "distinct ids from 1 to 2^63")
		}
		seen[m.ID] = true
	}
	if o.ElectionTicks <= o.HeartbeatTicks || o.HeartbeatTicks < 1 {
		bad("ElectionTicks", o.ElectionTicks, "more than HeartbeatTicks, which is at least 1")
	}
	if o.CommandBytes < 1 || o.CommandBytes > commandBytesMax {
		bad("CommandBytes", o.CommandBytes, fmt.Sprintf("1 to %d", commandBytesMax))
	}
	if o.EntryBytes < 1 || o.EntryBytes > commandBytesMax {
		bad("EntryBytes", o.EntryBytes, fmt.Sprintf("1 to %d", commandBytesMax))
	}
	for _, bound := range []struct {
		field      string
		value, max int64
	}{
		{"InflightCommands", int64(o.InflightCommands), inflightCommandsMax},
		{"InflightBytes", o.InflightBytes, inflightBytesMax},
		{"NodeInflightCommands", int64(o.NodeInflightCommands), inflightCommandsMax},
		{"NodeInflightBytes", o.NodeInflightBytes, inflightBytesMax},
	} {
		if bound.value < 1 || bound.value > bound.max {
			bad(bound.field, bound.value, fmt.Sprintf("1 to %d", bound.max))
		}
	}
	if o.Tick < time.Millisecond {
		bad("Tick", o.Tick, "at least 1ms")
	}
	return errors.Join(errs...)
}

func (o Options) member(id uint64) (Member, bool) {
	for _, m := range o.Members {
		if m.ID == id {
			return m, true
		}
	}
	return Member{}, false
}
