package transport

import (
	"context"
	"io"
	"log/slog"
	"net"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Kind tells opaque request frames apart. Its values belong to the caller.
type Kind uint8

// Handler receives what peers send. Its methods are called from the goroutines that read the
// connections, concurrently for different connections, and in stream order for one lane of one
// peer. A method that blocks stalls that lane, which is why only HandleSnapshot may.
type Handler interface {
	// HandleRaft takes raft messages of one group from an authenticated peer in stream order.
	// The handler owns msgs. It must not block.
	//
	// The transport has checked that the frame is undamaged and that it comes from the node
	// that the handshake named. It has not checked the messages themselves.
	HandleRaft(from, group uint64, msgs []*raftpb.Message)

	// HandleRequest takes an opaque frame. The handler owns payload. It must not block.
	HandleRequest(from, group uint64, kind Kind, payload []byte)

	// HandleSnapshot takes a snapshot stream: m is the MsgSnap, and body yields exactly size
	// bytes and then io.EOF; a stream that breaks or is damaged yields another error instead.
	// The call runs on the stream's own goroutine and may block. ctx ends when the connection
	// breaks or the transport is closed. Nil means: durable, and handed to raft.
	HandleSnapshot(
		ctx context.Context, from, group uint64, m *raftpb.Message, size int64, body io.Reader,
	) error

	// PeerLost tells that a stream to peer broke or that its queue overflowed: what was sent
	// and not answered may be lost. It must not block.
	PeerLost(peer uint64)

	// PeerUp tells that a stream to peer is established. incarnation is the peer's own account
	// of itself in the handshake. It must not block.
	PeerUp(peer, incarnation uint64)
}

// Options configures a Transport. ClusterID, NodeID, Address, Listener and Handler are required.
type Options struct {
	// ClusterID names the cluster; peers with another one are refused.
	ClusterID string
	// NodeID is this node's id, not zero.
	NodeID uint64
	// Incarnation distinguishes successive lives of one node id on different disks.
	Incarnation uint64
	// Address is where other nodes dial this one. The handshake tells it to peers.
	Address string
	// Listener accepts connections of peers. The transport owns it from Start on.
	Listener net.Listener
	// Dial opens connections. Nil means net.Dialer over tcp, which resolves names on each call.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Handler receives what peers send.
	Handler Handler
	// QueueBytes bounds what waits to be written, per peer and lane. Zero means 64 MiB.
	QueueBytes int64
	// MaxFrameBytes bounds one frame in both directions. A frame that claims to be larger is
	// refused before memory is taken for it. Zero means 64 MiB.
	MaxFrameBytes int64
	// Logger takes one line for each change of a connection's state. Nil means slog.Default.
	Logger *slog.Logger
}

// PeerStats is what Transport.Stats tells about one peer. Counters start at zero in New.
type PeerStats struct {
	ID             uint64
	Address        string
	Connected      bool   // both lanes towards the peer are established
	Incarnation    uint64 // as of the last handshake, or zero
	QueueBytes     int64  // waiting in both lanes
	SentFrames     uint64
	SentBytes      uint64
	ReceivedFrames uint64
	ReceivedBytes  uint64
	Drops          uint64 // frames dropped before or while they were written
	LastError      string // the last reason why a connection to the peer ended or was refused
	LastErrorAt    time.Time
}
