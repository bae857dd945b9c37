package server

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connectraft/connect/node"
)

// nodeCollector reads what raft, the log and the transport count at the moment of a scrape.
type nodeCollector struct {
	node *node.Node
	dir  string // of its data
}

var _ prometheus.Collector = nodeCollector{}

// Describe says nothing: the set of groups and peers is only known when they are read.
func (c nodeCollector) Describe(chan<- *prometheus.Desc) {}

// Collect reads everything once.
func (c nodeCollector) Collect(metrics chan<- prometheus.Metric) {
	for _, g := range c.node.Groups() {
		collectGroup(g.Status(), metrics)
		collectMembers(g, metrics)
	}
	c.collectLog(metrics)
	c.collectPeers(metrics)
}

func collectGroup(s node.Status, metrics chan<- prometheus.Metric) {
	label := sample{metrics, "group", strconv.FormatUint(s.Group, 10)}
	label.gauge("connect_raft_is_leader", "1 on the leader of the group.",
		zeroOrOne(s.Role == "leader"))
	label.gauge("connect_raft_term", "Raft term.", float64(s.Term))
	label.gauge("connect_raft_commit_index",
		"Last committed entry that this node knows of.", float64(s.Commit))
	label.gauge("connect_raft_applied_index",
		"Last entry in the state of this node.", float64(s.Applied))
	label.gauge("connect_raft_first_index",
		"First entry in the log of this node.", float64(s.FirstIndex))
	label.gauge("connect_raft_last_index",
		"Last entry in the log of this node.", float64(s.LastIndex))
	label.gauge("connect_raft_snapshot_index",
		"Last entry in the newest snapshot of this node.", float64(s.SnapshotIndex))
	label.gauge("connect_raft_snapshot_bytes", "Size of the newest snapshot of this node.",
		float64(s.SnapshotBytes))
	label.gauge("connect_raft_inflight_commands",
		"Commands admitted on this node and not finished.", float64(s.Inflight))
	label.gauge("connect_raft_failed",
		"1 when the group stopped on this node; /status says why.", zeroOrOne(s.Failed != ""))
}

func collectMembers(g *node.Group, metrics chan<- prometheus.Metric) {
	label := sample{metrics, "group", strconv.FormatUint(g.ID(), 10)}
	membership := g.Membership()
	label.gauge("connect_raft_voters", "Members with a vote, as far as this node knows.",
		float64(len(membership.Voters)))
	label.gauge("connect_raft_learners", "Members without a vote, as far as this node knows.",
		float64(len(membership.Learners)))
	label.gauge("connect_raft_ready", "1 while the group serves on this node; /readyz says why not.",
		zeroOrOne(g.Ready() == nil))
}

func (c nodeCollector) collectLog(metrics chan<- prometheus.Metric) {
	s, plain := c.node.LogStats(), sample{metrics: metrics}
	plain.gauge("connect_log_segments", "Files of the log.", float64(s.Segments))
	plain.gauge("connect_log_disk_bytes", "Size of the files of the log.", float64(s.DiskBytes))
	plain.gauge("connect_log_live_bytes",
		"Bytes of entries in the log that groups still need.", float64(s.LiveBytes))
	plain.gauge("connect_log_full", "1 while the disk has no room for more of the log.",
		zeroOrOne(s.Full))
	if disk := diskOf(c.dir); disk.FreeBytes >= 0 {
		plain.gauge("connect_disk_free_bytes", "Room on the file system of the data directory.",
			float64(disk.FreeBytes))
	}
	plain.counter("connect_log_syncs_total", "Syncs of the log.", float64(s.Syncs))
	plain.counter("connect_log_sync_seconds_total", "Time spent in syncs of the log.",
		s.SyncTime.Seconds())
	plain.counter("connect_log_rotations_total", "Changes to a new file of the log.",
		float64(s.Rotations))
}

func (c nodeCollector) collectPeers(metrics chan<- prometheus.Metric) {
	for _, s := range c.node.Peers() {
		label := sample{metrics, "peer", strconv.FormatUint(s.ID, 10)}
		label.gauge("connect_peer_connected", "1 while messages can be sent to the peer.",
			zeroOrOne(s.Connected))
		label.gauge("connect_peer_queue_bytes", "Bytes that wait to be sent to the peer.",
			float64(s.QueueBytes))
		label.counter("connect_peer_sent_bytes_total", "Bytes sent to the peer.",
			float64(s.SentBytes))
		label.counter("connect_peer_sent_frames_total", "Frames sent to the peer.",
			float64(s.SentFrames))
		label.counter("connect_peer_received_bytes_total", "Bytes received from the peer.",
			float64(s.ReceivedBytes))
		label.counter("connect_peer_received_frames_total", "Frames received from the peer.",
			float64(s.ReceivedFrames))
		label.counter("connect_peer_dropped_frames_total",
			"Frames for the peer that were dropped; raft sends again what matters.",
			float64(s.Drops))
		label.counter("connect_peer_damaged_total",
			"Connections from the peer that ended with a damaged frame.", float64(s.Damaged))
	}
}

// sample makes metrics with one label, or none when label is empty.
type sample struct {
	metrics      chan<- prometheus.Metric
	label, value string
}

func (s sample) gauge(name, help string, value float64) {
	s.send(name, help, prometheus.GaugeValue, value)
}

func (s sample) counter(name, help string, value float64) {
	s.send(name, help, prometheus.CounterValue, value)
}

func (s sample) send(name, help string, kind prometheus.ValueType, value float64) {
	var labels, values []string
	if s.label != "" {
		labels, values = []string{s.label}, []string{s.value}
	}
	desc := prometheus.NewDesc(name, help, labels, nil)
	s.metrics <- prometheus.MustNewConstMetric(desc, kind, value, values...)
}

func zeroOrOne(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
