// Package config reads the TOML file that describes a cluster.
//
// One file serves all nodes of a cluster: it names every member, those that a new cluster begins with
// and those that join it later, and each node learns which of them it is from the file, the
// environment or a flag. Reading is strict. An unknown key, a value
// out of its range, an address that is none: each is a [Problem] that names file, line, key, value
// and what is allowed, and all problems of a file are reported at once. Nothing is written, opened
// or started by this package.
//
// docs/configuration.md shows every key with its default and its range.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// Config is a valid configuration. It is a value: nothing changes it after Load.
type Config struct {
	Cluster  Cluster
	Node     Node
	Members  []Member // in the order of the file; at least one
	Raft     Raft
	Log      Log
	Snapshot Snapshot
	Limits   Limits
	Listen   Listen
}

// Cluster is what all nodes have in common.
type Cluster struct {
	ID string // 1 to 63 of a-z, 0-9 and -; nodes of another cluster are refused
}

// Node is what makes this process one of the members.
type Node struct {
	ID   uint64 // the id of one of the members
	Data string // directory of this node alone; relative to the working directory
}

// Member is one node of the cluster with its three listeners, each host:port.
type Member struct {
	ID     uint64 // not 0; never used again for another machine
	Peer   string // for the other members
	Client string // for clients
	Admin  string // for operators: health, status, metrics and changes over HTTP
	Join   bool   // not one of those the cluster begins with: it waits until it is added
}

// Raft has the timing of elections.
type Raft struct {
	Tick           time.Duration // unit of the two below
	ElectionTicks  int           // without a leader for one to two times this, a node campaigns
	HeartbeatTicks int           // a leader is heard at least this often
}

// Log bounds the write-ahead log.
type Log struct {
	Segment int64 // bytes of a file of the log
	Cache   int64 // bytes of recent entries kept in memory
}

// Snapshot says when the state is written and the log before it dropped: after so many log entries
// or so many bytes of them, whatever comes first.
type Snapshot struct {
	Entries uint64
	Bytes   int64
}

// Limits bounds what clients may ask of a node.
type Limits struct {
	Command          int64         // bytes of the largest command
	Entry            int64         // bytes of commands packed into one log entry
	InflightCommands int           // commands admitted and not finished
	InflightBytes    int64         // the same in bytes
	Connections      int           // client connections
	RequestTimeout   time.Duration // after which a client is told that the outcome is unknown
}

// Listen says who can reach the listeners.
type Listen struct {
	Public bool // without it every address must be a loopback address
}

// fileBytesMax bounds what is read of a configuration file.
const fileBytesMax = 1 << 20

// Default returns the configuration of a file that sets nothing. It is not valid: it has no cluster
// id and no members.
func Default() *Config {
	return &Config{
		Raft:     Raft{Tick: 100 * time.Millisecond, ElectionTicks: 10, HeartbeatTicks: 1},
		Log:      Log{Segment: 64 << 20, Cache: 64 << 20},
		Snapshot: Snapshot{Entries: 10_000, Bytes: 64 << 20},
		Limits: Limits{
			Command: 1 << 20, Entry: 1 << 20,
			InflightCommands: 1 << 16, InflightBytes: 64 << 20,
			Connections: 10_000, RequestTimeout: 10 * time.Second,
		},
	}
}

// Load reads the file at path. The error is an [*Error] with every problem there is; the program
// that gets it starts nothing and exits.
func Load(path string, over Overrides) (*Config, error) {
	data, err := read(path)
	if err != nil {
		reason := err.Error()
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			reason = e.Err.Error() // the problem names the file already
		}
		return nil, &Error{Problems: []Problem{{File: path, Reason: reason,
			Want: "a readable file of at most 1 MiB", Err: err}}}
	}
	return Parse(path, data, over)
}

// read goes by what it gets and not by the size that the file claims: a device has none.
func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, fileBytesMax+1))
	if err == nil && len(data) > fileBytesMax {
		err = errors.New("the file is larger")
	}
	return data, err
}

// Member returns the member with an id.
func (c *Config) Member(id uint64) (Member, bool) {
	for _, m := range c.Members {
		if m.ID == id {
			return m, true
		}
	}
	return Member{}, false
}

// Self returns the member that this node is.
func (c *Config) Self() Member {
	m, ok := c.Member(c.Node.ID)
	if !ok {
		panic(fmt.Sprintf("config: node %d is no member, which Load does not let through", c.Node.ID))
	}
	return m
}
