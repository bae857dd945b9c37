package server

import (
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/connectraft/connect/internal/admin"
	"github.com/connectraft/connect/node"
)

// getStatus answers the state of this node; ?group=N leaves out the other groups.
func (a *adminListener) getStatus(w http.ResponseWriter, r *http.Request) {
	only, err := groupOf(r)
	if err != nil {
		answerError(w, err)
		return
	}
	answerJSON(w, a.server.report(only))
}

// getGroups answers the groups that run on this node.
func (a *adminListener) getGroups(w http.ResponseWriter, _ *http.Request) {
	answerJSON(w, admin.Groups{Groups: a.server.report(0).Groups})
}

// report is the state of this node with one group, or with all if only is 0.
func (s *Server) report(only uint64) *admin.Status {
	log := s.node.LogStats()
	bytes := make(map[uint64]int64, len(log.Groups))
	for _, g := range log.Groups {
		bytes[g.Group] = g.Bytes
	}
	st := &admin.Status{
		Cluster:       s.config.Cluster.ID,
		Version:       s.version,
		PID:           os.Getpid(),
		UptimeSeconds: int64(time.Since(s.opened).Seconds()),
		Self:          s.self(),
		Groups:        []admin.Group{},
		Peers:         []admin.Peer{},
		Log: admin.Log{Segments: log.Segments, DiskBytes: log.DiskBytes, LiveBytes: log.LiveBytes,
			Syncs: log.Syncs, SyncSeconds: log.SyncTime.Seconds(), Full: log.Full},
		Disk: diskOf(s.config.Node.Data),
	}
	ready := s.ready()
	st.State = stateOf(ready)
	if ready != nil {
		st.NotReady = ready.Error()
	}
	for _, g := range s.node.Groups() {
		status, notReady := g.Status(), g.Ready()
		count(&st.Summary, &status, notReady)
		if only != 0 && only != status.Group {
			continue
		}
		report := groupReport(g, &status, notReady)
		report.LogBytes = bytes[report.Group]
		st.Groups = append(st.Groups, report)
	}
	for _, p := range s.node.Peers() {
		report := admin.Peer{ID: p.ID, Address: p.Address, Connected: p.Connected,
			Incarnation: p.Incarnation, QueueBytes: p.QueueBytes, Dropped: p.Drops}
		if p.LastError != "" {
			report.LastError = p.LastErrorAt.UTC().Format(time.RFC3339) + ": " + p.LastError
		}
		st.Peers = append(st.Peers, report)
	}
	return st
}

// self is this node with the addresses of its own configuration.
func (s *Server) self() admin.Member {
	m := s.config.Self()
	return admin.Member{ID: m.ID, Peer: m.Peer, Client: m.Client, Admin: m.Admin,
		Incarnation: s.node.Incarnation()}
}

// stateOf says what kind of reason keeps a node from serving.
func stateOf(notReady error) string {
	switch {
	case notReady == nil:
		return admin.StateServing
	case errors.Is(notReady, node.ErrNotAdded):
		return admin.StateWaiting
	case errors.Is(notReady, node.ErrRefused):
		return admin.StateRefused
	case errors.Is(notReady, node.ErrRemoved):
		return admin.StateRemoved
	}
	return admin.StateNotReady
}

// count leaves out groups that this node has no part in.
func count(s *admin.Summary, group *node.Status, notReady error) {
	if errors.Is(notReady, node.ErrNotAdded) || errors.Is(notReady, node.ErrRemoved) {
		return
	}
	s.Groups++
	if group.Role == "leader" {
		s.Leading++
	}
	if group.Leader == 0 {
		s.NoLeader++
	}
	if group.Failed != "" {
		s.Failed++
	}
	if notReady != nil {
		s.NotReady++
	}
}

func groupReport(g *node.Group, s *node.Status, notReady error) admin.Group {
	report := admin.Group{Group: s.Group, Role: s.Role, Leader: s.Leader, Term: s.Term,
		Commit: s.Commit, Applied: s.Applied, Lag: s.Commit - min(s.Applied, s.Commit),
		FirstIndex: s.FirstIndex, LastIndex: s.LastIndex, SnapshotIndex: s.SnapshotIndex,
		SnapshotBytes: s.SnapshotBytes, Inflight: s.Inflight, Failed: s.Failed,
		Membership: membershipOf(s.Group, g.Membership())}
	if notReady != nil {
		report.NotReady = notReady.Error()
	}
	return report
}
