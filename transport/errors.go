package transport

import "errors"

// Errors of Transport.Send: each means that the frame was surely not sent, so that the caller
// may retry it unchanged or give a definite refusal to whom it serves.
var (
	// ErrUnknownPeer is returned by Send and SendSnapshot for a peer that was never added with
	// SetPeer, or was removed. The caller adds the peer or drops what it wanted to send.
	ErrUnknownPeer = errors.New("transport: unknown peer")

	// ErrNotConnected is returned by Send while no stream to the peer is established. The
	// transport keeps dialling; Handler.PeerUp tells when trying again makes sense.
	ErrNotConnected = errors.New("transport: peer is not connected")

	// ErrQueueFull is returned by Send when the frame does not fit in the peer's queue, which
	// means that the peer reads more slowly than this node writes. The caller sheds load.
	ErrQueueFull = errors.New("transport: peer queue is full")

	// ErrFrameTooLarge is returned by Send and SendSnapshot for a payload that exceeds
	// Options.MaxFrameBytes. Retrying the same payload never succeeds.
	ErrFrameTooLarge = errors.New("transport: frame exceeds the size limit")

	// ErrSnapshotRefused is returned by SendSnapshot when the receiver's handler returned an
	// error, whose text follows. The receiver has not taken the snapshot.
	ErrSnapshotRefused = errors.New("transport: receiver refused the snapshot")

	// ErrClosed is returned by every method that sends once Close was called.
	ErrClosed = errors.New("transport: closed")
)
