package server

import (
	"cmp"
	"log/slog"
	"os"

	"github.com/connectraft/connect/config"
	"github.com/connectraft/connect/node"
)

// defaultFile is the cluster file when neither flag nor environment names one.
const defaultFile = "cluster.toml"

// loadConfig reads the cluster file with what the flags say instead of it; "" says nothing.
func loadConfig(file, id, data string) (*config.Config, error) {
	over := config.Overrides{ID: id, Data: data, Environ: os.Getenv}
	return config.Load(cmp.Or(file, os.Getenv("CONNECT_CONFIG"), defaultFile), over)
}

// nodeOptions says in the node's terms what the configuration says.
func nodeOptions(c *config.Config, service *Service, logger *slog.Logger) node.Options {
	o := node.Options{
		Machines:         service.machines,
		ClusterID:        c.Cluster.ID,
		ID:               c.Node.ID,
		Dir:              c.Node.Data,
		Tick:             c.Raft.Tick,
		ElectionTicks:    c.Raft.ElectionTicks,
		HeartbeatTicks:   c.Raft.HeartbeatTicks,
		SegmentBytes:     c.Log.Segment,
		CacheBytes:       c.Log.Cache,
		SnapshotEntries:  c.Snapshot.Entries,
		SnapshotBytes:    c.Snapshot.Bytes,
		CommandBytes:     int(c.Limits.Command),
		EntryBytes:       int(c.Limits.Entry),
		InflightCommands: c.Limits.InflightCommands,
		InflightBytes:    c.Limits.InflightBytes,
		Logger:           logger,
	}
	for _, m := range c.Members {
		if m.Join && m.ID != c.Node.ID {
			continue // the cluster did not begin with it: the group knows whether it is a member
		}
		o.Members = append(o.Members,
			node.Member{ID: m.ID, Address: m.Peer, Client: m.Client, Admin: m.Admin})
	}
	o.Join = c.Self().Join
	return o
}
