package transport

import (
	"context"
	"io"

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

	// PeerLost tells that a stream to peer or from it broke, that its queue overflowed, or that
	// messages to it were dropped because it is unknown or not connected: what was sent and not
	// answered may be lost, and so may answers. It must not block.
	PeerLost(peer uint64)

	// PeerUp tells that the streams of all lanes to peer are established: what is sent from now
	// on is on its way. incarnation is the peer's own account of itself in the handshake.
	//
	// PeerLost and PeerUp are called one at a time, in an order that tells the truth: the loss
	// of a stream before the PeerUp that follows it. Losses in quick succession are one call.
	// The method must not block.
	PeerUp(peer, incarnation uint64)
}

// Admitter is an optional capability of a Handler. AdmitPeer decides on a peer whose handshake
// is otherwise in order, before anything it sends is delivered and before anything is sent to
// it, in both directions: a node whose disk was wiped is refused here, under its old id and its
// new incarnation. The error's text reaches the peer and both logs, so it should say what to do
// about it. AdmitPeer is called concurrently and must not block.
type Admitter interface {
	AdmitPeer(peer, incarnation uint64, address string) error
}

// RefusalHandler is an optional capability of a Handler. PeerRefused tells that peer does not take
// this node: text is its reason for people, and removed says that it has seen this node leave the
// cluster. It is called at every attempt to connect, concurrently, and must not block.
type RefusalHandler interface {
	PeerRefused(peer uint64, removed bool, text string)
}
