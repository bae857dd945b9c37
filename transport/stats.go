package transport

import "time"

// PeerStats is what Transport.Stats tells about one peer. Counters start at zero in New.
type PeerStats struct {
	ID             uint64
	Address        string // where the peer is dialled
	Connected      bool   // both lanes towards the peer are established
	Heard          bool   // the peer has a connection to this node
	Incarnation    uint64 // as of the last handshake, or zero
	QueueBytes     int64  // waiting in both lanes
	SentFrames     uint64
	SentBytes      uint64
	ReceivedFrames uint64
	ReceivedBytes  uint64
	Drops          uint64 // frames dropped before or while they were written
	Damaged        uint64 // connections from the peer that ended with a damaged frame
	LastError      string // the last reason why a connection to the peer ended or was refused
	LastErrorAt    time.Time
}
