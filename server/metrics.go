package server

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/connectraft/connect/node"
)

// metrics are the counters of one server, in a registry of its own. What raft and the log count is
// read from the node when somebody asks; see nodeCollector.
type metrics struct {
	registry *prometheus.Registry

	// By kind of command and outcome. They are looked up once, here, and not for each command.
	commands [2][3]prometheus.Counter
	seconds  [2]prometheus.Observer

	builtin        prometheus.Counter // commands that need neither log nor state
	refused        prometheus.Counter // unknown commands, wrong numbers of arguments
	protocolErrors prometheus.Counter // connections that were closed for what came over them
	connections    prometheus.Gauge
	turnedAway     prometheus.Counter // connections beyond the limit
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	commands := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "connect_commands_total",
		Help: "Commands of the service that clients sent to this node, by kind and outcome.",
	}, []string{"kind", "outcome"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "connect_command_seconds",
		Help:    "Time from the start of a command on this node to its outcome.",
		Buckets: prometheus.ExponentialBuckets(50e-6, 2, 20), // 50 microseconds to 26 seconds
	}, []string{"kind"})
	for kind, kindLabel := range [2]string{kindWrite: "write", kindRead: "read"} {
		m.seconds[kind] = seconds.WithLabelValues(kindLabel)
		for outcome, label := range [3]string{
			node.Applied: "applied", node.NotApplied: "not_applied", node.Unknown: "unknown"} {
			m.commands[kind][outcome] = commands.WithLabelValues(kindLabel, label)
		}
	}
	m.builtin = counter("connect_builtin_commands_total",
		"Commands that the server answers itself, such as PING.")
	m.refused = counter("connect_refused_commands_total",
		"Commands that the service does not know, or not with so many arguments.")
	m.protocolErrors = counter("connect_protocol_errors_total",
		"Client connections that were closed because of what came over them.")
	m.turnedAway = counter("connect_connections_refused_total",
		"Client connections beyond limits.connections.")
	m.connections = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "connect_connections", Help: "Client connections that are open."})
	m.registry.MustRegister(commands, seconds, m.builtin, m.refused, m.protocolErrors,
		m.turnedAway, m.connections, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

// observe counts one command of the service.
func (m *metrics) observe(kind commandKind, err error, took time.Duration) {
	m.commands[kind][node.OutcomeOf(err)].Inc()
	m.seconds[kind].Observe(took.Seconds())
}

// nodeCollector reads the state of the raft groups at the moment of a scrape.
type nodeCollector struct{ node *node.Node }

var _ prometheus.Collector = nodeCollector{}

// groupMetrics names what is told of each group, with the value's place in its status.
var groupMetrics = [...]struct {
	desc  *prometheus.Desc
	value func(node.Status) float64
}{
	{groupDesc("is_leader", "1 on the leader of the group."), isLeader},
	{groupDesc("term", "Raft term."), func(s node.Status) float64 { return float64(s.Term) }},
	{groupDesc("commit_index", "Last committed entry that this node knows of."),
		func(s node.Status) float64 { return float64(s.Commit) }},
	{groupDesc("applied_index", "Last entry in the state of this node."),
		func(s node.Status) float64 { return float64(s.Applied) }},
	{groupDesc("first_index", "First entry in the log of this node."),
		func(s node.Status) float64 { return float64(s.FirstIndex) }},
	{groupDesc("last_index", "Last entry in the log of this node."),
		func(s node.Status) float64 { return float64(s.LastIndex) }},
	{groupDesc("snapshot_index", "Last entry in the newest snapshot of this node."),
		func(s node.Status) float64 { return float64(s.SnapshotIndex) }},
	{groupDesc("inflight_commands", "Commands admitted on this node and not finished."),
		func(s node.Status) float64 { return float64(s.Inflight) }},
}

func groupDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("connect_raft_"+name, help, []string{"group"}, nil)
}

func isLeader(s node.Status) float64 {
	if s.Role == "leader" {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (c nodeCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, m := range groupMetrics {
		descs <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c nodeCollector) Collect(metrics chan<- prometheus.Metric) {
	for _, g := range c.node.Groups() {
		status := g.Status()
		label := strconv.FormatUint(status.Group, 10)
		for _, m := range groupMetrics {
			metrics <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue,
				m.value(status), label)
		}
	}
}
