package server

import (
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
