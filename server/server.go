package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/connectraft/connect/config"
	"github.com/connectraft/connect/node"
)

// groupID is the raft group that carries the service.
const groupID = 1

// shutdownTime is how long Close waits for commands in flight before it ends them.
const shutdownTime = 5 * time.Second

// handOverTime is how long Close tries to hand the leadership to another node.
const handOverTime = 2 * time.Second

// Server is a running node of the cluster with its client and admin listeners.
type Server struct {
	config  *config.Config
	service Service
	logger  *slog.Logger
	version string
	opened  time.Time
	members map[uint64]config.Member

	node    *node.Node
	group   *node.Group
	metrics *metrics
	clients *clientListener
	admin   *adminListener

	closeOnce sync.Once
	closeErr  error
}

// Open starts the node that cfg describes and serves the service: it takes the ports, locks the
// data directory, recovers what is in it and begins to accept. It returns before the cluster has a
// leader; /readyz says when it has. On an error nothing is left running. The service is this
// server's from now on.
func Open(cfg *config.Config, service Service, logger *slog.Logger) (*Server, error) {
	if service.err != nil {
		return nil, service.err
	}
	s := &Server{
		config:  cfg,
		service: service,
		logger:  logger,
		version: buildVersion(),
		opened:  time.Now(),
		members: make(map[uint64]config.Member),
		metrics: newMetrics(),
	}
	for _, m := range cfg.Members {
		s.members[m.ID] = m
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	logger.Info("serving", "node", cfg.Node.ID, "cluster", cfg.Cluster.ID, "version", s.version,
		"client", s.clients.listener.Addr(), "admin", s.admin.listener.Addr())
	return s, nil
}

// open takes the ports first: a port in use is found out before the data directory is touched.
func (s *Server) open() error {
	self := s.config.Self()
	client, err := listen("client", self.Client)
	if err != nil {
		return err
	}
	s.clients = newClientListener(s, client)
	admin, err := listen("admin", self.Admin)
	if err != nil {
		return err
	}
	s.admin = newAdminListener(s, admin)
	if s.node, err = node.Open(nodeOptions(s.config, &s.service, s.logger)); err != nil {
		return err
	}
	machine, err := s.service.machines(groupID)
	if err != nil {
		return err
	}
	if s.group, err = s.node.StartGroup(groupID, machine); err != nil {
		return err
	}
	s.metrics.registry.MustRegister(nodeCollector{s.node, s.config.Node.Data})
	s.clients.start()
	s.admin.start()
	return nil
}

func listen(name, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("server: %s listener: %w", name, err)
	}
	return l, nil
}

// Done is closed when the node cannot go on, for example because a sync of its log failed. Err
// tells why; all that is left to do is Close.
func (s *Server) Done() <-chan struct{} { return s.node.Done() }

// Err returns why the node cannot go on, or nil.
func (s *Server) Err() error { return s.node.Err() }

// Close stops accepting, lets commands in flight finish for at most five seconds, and ends
// everything that Open started. What was acknowledged is on disk. Close may be called again.
func (s *Server) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if s.node != nil && s.hasOthers() {
		s.handOver()
	}
	if s.clients != nil {
		s.clients.drain(ctx)
	}
	var err error
	if s.node != nil {
		err = s.node.Close() // finishes the calls that are left
	}
	if s.clients != nil {
		s.clients.close()
	}
	if s.admin != nil {
		s.admin.close()
	}
	return err
}

// hasOthers reports whether any group has a voter to hand over to.
func (s *Server) hasOthers() bool {
	for _, g := range s.node.Groups() {
		if len(g.Membership().Voters) > 1 {
			return true
		}
	}
	return false
}

// handOver gives the leadership away, so that the others need not notice first that it is gone.
func (s *Server) handOver() {
	ctx, cancel := context.WithTimeout(context.Background(), handOverTime)
	defer cancel()
	if err := s.node.Drain(ctx); err != nil {
		s.logger.Warn("leadership not handed over", "error", err)
	}
}

// Run opens a server and serves until ctx ends, which is no error, or the node cannot go on.
func Run(ctx context.Context, cfg *config.Config, service Service, logger *slog.Logger) error {
	s, err := Open(cfg, service, logger)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		logger.Info("stopping", "reason", context.Cause(ctx))
	case <-s.Done():
		err = s.Err()
	}
	if err = errors.Join(err, s.Close()); err == nil {
		logger.Info("stopped")
	}
	return err
}

// groupOf returns a group by what clients call it: 0 is the first one. It is nil for a group that
// does not run on this node.
func (s *Server) groupOf(id uint64) *node.Group {
	if id == 0 || id == groupID {
		return s.group
	}
	return s.node.Group(id)
}

// noGroup is what a client is told whose group groupOf does not find.
func noGroup(id uint64) string {
	return fmt.Sprintf("NOGROUP group %d does not run on this node; not applied", id)
}

// startCommand gives a command to the log or a query to the state machine. The payload's memory
// passes on.
func startCommand(g *node.Group, payload []byte, kind commandKind) *node.Call {
	if kind == kindWrite {
		return g.Go(payload)
	}
	return g.GoRead(payload, node.Linearizable)
}

// failure says what a client is told about err.
func (s *Server) failure(err error, kind commandKind) failure {
	return failureOf(err, kind, s.address)
}

// address returns the client address of a node, or "" for one that nobody knows. What the group
// says of its members counts, and the configuration for what it does not say.
func (s *Server) address(id uint64) string {
	if m, ok := s.group.Member(id); ok && m.Client != "" {
		return m.Client
	}
	return s.members[id].Client
}

// leaderHint returns the client address of a group's leader when it is another node, else "".
func (s *Server) leaderHint(g *node.Group) string {
	leader := g.Leader()
	if leader == s.config.Node.ID {
		return ""
	}
	return s.address(leader)
}

// buildVersion is the version of the module that the program was built from.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && (version == "" || version == "(devel)") {
			version = setting.Value[:min(len(setting.Value), 12)]
		}
	}
	if version == "" {
		version = "(devel)"
	}
	return version
}
