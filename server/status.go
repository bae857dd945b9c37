package server

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/connectraft/connect/node"
)

// status is what /status shows. Scripts read its fields line by line: they keep their names.
type status struct {
	ID            uint64         `json:"id"`
	Cluster       string         `json:"cluster"`
	Role          string         `json:"role"`
	Term          uint64         `json:"term"`
	Leader        uint64         `json:"leader"`
	Commit        uint64         `json:"commit"`
	Applied       uint64         `json:"applied"`
	FirstIndex    uint64         `json:"first_index"`
	LastIndex     uint64         `json:"last_index"`
	SnapshotIndex uint64         `json:"snapshot_index"`
	PID           int            `json:"pid"`
	Version       string         `json:"version"`
	UptimeSeconds int64          `json:"uptime_seconds"`
	NotReady      string         `json:"not_ready,omitempty"`
	Groups        []node.Status  `json:"groups"`
	Members       []memberStatus `json:"members"`
}

type memberStatus struct {
	ID     uint64 `json:"id"`
	Peer   string `json:"peer"`
	Client string `json:"client"`
	Admin  string `json:"admin"`
}

func (s *Server) status() status {
	group := s.group.Status()
	st := status{
		ID:            s.config.Node.ID,
		Cluster:       s.config.Cluster.ID,
		Role:          group.Role,
		Term:          group.Term,
		Leader:        group.Leader,
		Commit:        group.Commit,
		Applied:       group.Applied,
		FirstIndex:    group.FirstIndex,
		LastIndex:     group.LastIndex,
		SnapshotIndex: group.SnapshotIndex,
		PID:           os.Getpid(),
		Version:       s.version,
		UptimeSeconds: int64(time.Since(s.opened).Seconds()),
	}
	if err := s.ready(); err != nil {
		st.NotReady = err.Error()
	}
	for _, m := range s.config.Members {
		st.Members = append(st.Members, memberStatus{m.ID, m.Peer, m.Client, m.Admin})
	}
	for _, g := range s.node.Groups() {
		st.Groups = append(st.Groups, g.Status())
	}
	return st
}

// info is the answer to the RESP command INFO.
func (s *Server) info() string {
	st := s.status()
	var b strings.Builder
	line := func(name string, value any) { fmt.Fprintf(&b, "%s:%v\r\n", name, value) }
	b.WriteString("# Server\r\n")
	line("connect_version", st.Version)
	line("process_id", st.PID)
	line("uptime_in_seconds", st.UptimeSeconds)
	b.WriteString("\r\n# Raft\r\n")
	line("cluster", st.Cluster)
	line("node", st.ID)
	line("raft_role", st.Role)
	line("raft_leader", st.Leader)
	line("raft_leader_address", s.address(st.Leader))
	line("raft_term", st.Term)
	line("raft_commit_index", st.Commit)
	line("raft_applied_index", st.Applied)
	return b.String()
}
