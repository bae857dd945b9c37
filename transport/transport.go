package transport

import (
	"context"
	"io"

	"go.etcd.io/raft/v3/raftpb"
)

// Transport is a node's end of all its peer connections. Its methods are safe for concurrent
// use.
type Transport struct {
	options Options
}

// New checks o and returns a Transport that does nothing until Start.
func New(o Options) (*Transport, error) { return &Transport{options: o}, nil }

// Start accepts connections and dials the peers.
func (t *Transport) Start() {}

// SetPeer adds a peer or gives it another address.
func (t *Transport) SetPeer(id uint64, address string) {}

// RemovePeer closes the connections to a peer and forgets it.
func (t *Transport) RemovePeer(id uint64) {}

// SendRaft queues raft messages of one group for a peer. It never blocks: what cannot be
// queued is dropped and reported through Handler.PeerLost. Ownership of msgs passes to the
// transport, which reads the messages and their entries and never writes to them.
func (t *Transport) SendRaft(to, group uint64, msgs []*raftpb.Message) {}

// Send queues an opaque frame on the bulk lane. An error means that it was surely not sent.
// After nil it may arrive; if the stream breaks before it does, PeerLost is called afterwards.
// Ownership of payload passes to the transport.
func (t *Transport) Send(to, group uint64, kind Kind, payload []byte) error {
	return ErrNotConnected
}

// SendSnapshot streams size bytes of body to a peer on a connection of its own. It blocks and
// returns nil only after the receiver's handler returned nil. ctx cancels.
func (t *Transport) SendSnapshot(
	ctx context.Context, to, group uint64, m *raftpb.Message, size int64, body io.Reader,
) error {
	return ErrNotConnected
}

// Stats describes every known peer, ordered by id.
func (t *Transport) Stats() []PeerStats { return nil }

// Close ends all connections and waits for the transport's goroutines. It is idempotent.
func (t *Transport) Close() error { return nil }
