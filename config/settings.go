package config

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// section is a table of the file.
type section struct {
	name     string
	settings []setting
}

// setting is a key of a table.
type setting struct {
	key   string
	value value
}

const (
	nodeTable   = "node"
	memberTable = "member"
	membersMax  = 32
	idMax       = math.MaxInt64 // the largest integer of TOML
)

// sections returns every table but [[member]] with its keys, bound to the fields of c: the one
// list that reading, printing and the messages go by.
func (c *Config) sections() []section {
	const (
		kib, mib, gib = 1 << 10, 1 << 20, 1 << 30
		million       = 1_000_000
	)
	return []section{
		{"cluster", []setting{{"id", clusterID{&c.Cluster.ID}}}},
		{nodeTable, []setting{
			{"id", number[uint64]{&c.Node.ID, 1, idMax}},
			{"data", path{&c.Node.Data}},
		}},
		{"raft", []setting{
			{"tick", duration{&c.Raft.Tick, 10 * time.Millisecond, 10 * time.Second}},
			{"election_ticks", number[int]{&c.Raft.ElectionTicks, 2, 1000}},
			{"heartbeat_ticks", number[int]{&c.Raft.HeartbeatTicks, 1, 100}},
		}},
		{"log", []setting{
			{"segment", size{&c.Log.Segment, 64 * kib, 1 * gib}},
			{"cache", size{&c.Log.Cache, 1 * mib, 64 * gib}},
		}},
		{"snapshot", []setting{
			{"entries", number[uint64]{&c.Snapshot.Entries, 1, 1000 * million}},
			{"bytes", size{&c.Snapshot.Bytes, 4 * kib, 1024 * gib}},
		}},
		{"limits", []setting{
			{"command", size{&c.Limits.Command, 1, 32 * mib}},
			{"entry", size{&c.Limits.Entry, 1 * kib, 32 * mib}},
			{"inflight_commands", number[int]{&c.Limits.InflightCommands, 1, 16 * million}},
			{"inflight_bytes", size{&c.Limits.InflightBytes, 1 * mib, 16 * gib}},
			{"connections", number[int]{&c.Limits.Connections, 1, million}},
			{"request_timeout", duration{&c.Limits.RequestTimeout,
				10 * time.Millisecond, 10 * time.Minute}},
		}},
		{"listen", []setting{{"public", boolean{&c.Listen.Public}}}},
	}
}

// settings returns the keys of [[member]]. All of them but the flags are required.
func (m *Member) settings() []setting {
	return []setting{
		{"id", number[uint64]{&m.ID, 1, idMax}},
		{"peer", address{&m.Peer, "127.0.0.1:7101"}},
		{"client", address{&m.Client, "127.0.0.1:7001"}},
		{"admin", address{&m.Admin, "127.0.0.1:7201"}},
		{"join", boolean{&m.Join}},
	}
}

// required reports whether a key of [[member]] must be there.
func (s setting) required() bool {
	_, flag := s.value.(boolean)
	return !flag
}

// String returns the effective configuration, defaults and overrides included, as TOML that Load
// reads as the same configuration.
func (c *Config) String() string {
	var b strings.Builder
	print := func(header string, settings []setting) {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(header + "\n")
		for _, s := range settings {
			fmt.Fprintf(&b, "%s = %s\n", s.key, s.value)
		}
	}
	for _, section := range c.sections() {
		print("["+section.name+"]", section.settings)
		if section.name != nodeTable {
			continue
		}
		for i := range c.Members {
			print("[["+memberTable+"]]", c.Members[i].settings())
		}
	}
	return b.String()
}
