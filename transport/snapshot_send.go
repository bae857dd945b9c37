package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// snapshotChunkBytes is large enough for the frame around a chunk to cost nothing, and small
// enough for a slow disk to show progress.
const snapshotChunkBytes = 256 << 10

// SendSnapshot streams size bytes of body to a peer on a connection of its own. It blocks, and
// returns nil only after the receiver's handler returned nil; ErrSnapshotRefused says that the
// handler returned an error. Cancelling ctx closes the connection. After every other error than
// ErrUnknownPeer and ErrFrameTooLarge the receiver may nonetheless have taken the snapshot.
// body is not read after SendSnapshot has returned, which therefore waits for a Read in
// progress.
func (t *Transport) SendSnapshot(
	ctx context.Context, to, group uint64, m *raftpb.Message, size int64, body io.Reader,
) error {
	if t.ctx.Err() != nil {
		return ErrClosed
	}
	p := (*t.peers.Load())[to]
	if p == nil {
		return ErrUnknownPeer
	}
	if costOf(m) > t.options.MaxFrameBytes {
		return ErrFrameTooLarge
	}
	if size < 0 {
		return fmt.Errorf("transport: snapshot to node %d: size %d is negative", to, size)
	}
	if err := checkMessage(m); err != nil {
		return fmt.Errorf("transport: snapshot to node %d: %w", to, err)
	}
	if err := t.sendSnapshot(ctx, p, group, m, size, body); err != nil {
		switch {
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case t.ctx.Err() != nil:
			err = ErrClosed
		case p.ctx.Err() != nil:
			err = errRemoved
		}
		return fmt.Errorf("transport: snapshot to node %d: %w", to, err)
	}
	return nil
}

func (t *Transport) sendSnapshot(
	ctx context.Context, p *peer, group uint64, m *raftpb.Message, size int64, body io.Reader,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopPeer := context.AfterFunc(p.ctx, cancel)
	defer stopPeer()
	conn, _, err := t.connect(ctx, p, p.address(), laneSnapshot)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	s := snapshotSender{peer: p, conn: conn, writing: make(chan struct{}, 1)}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	result := make(chan error, 1)
	running.Go(func() {
		result <- readResult(conn)
		conn.Close() // ends a write that the receiver no longer reads
	})
	running.Go(func() { s.ping(ctx) })

	sendErr := s.send(group, m, size, body, t.options.MaxFrameBytes)
	if errors.Is(sendErr, errBody) {
		return sendErr
	}
	// The receiver's own word says more than a failed write, and counts even if it did not want
	// the whole body. The wait ends because the reader gives up without signs of life.
	return <-result
}

// errRemoved is why a snapshot ends when RemovePeer is called meanwhile.
var errRemoved = errors.New("peer was removed")

// errBody marks errors of the body given to SendSnapshot.
var errBody = errors.New("body")

// snapshotSender writes a snapshot stream.
type snapshotSender struct {
	peer *peer
	conn net.Conn

	// writing has a token while chunks or a ping are being written.
	writing chan struct{}
}

func (s *snapshotSender) write(b *batch) error {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	frames, bytes := b.frames, b.bytes()
	buffers := b.buffers()
	_, err := buffers.WriteTo(s.conn)
	b.reset()
	s.peer.sentFrames.Add(uint64(frames))
	s.peer.sentBytes.Add(uint64(bytes))
	return err
}

// send writes the opening frame and the chunks.
func (s *snapshotSender) send(
	group uint64, m *raftpb.Message, size int64, body io.Reader, limit int64,
) error {
	var b batch
	b.begin()
	b.uint64(uint64(size))
	b.messages([]*raftpb.Message{m})
	b.end(frameSnapshot, 0, group)
	chunk := make([]byte, min(snapshotChunkBytes, limit, max(size, 1)))
	for {
		if err := s.write(&b); err != nil {
			return err
		}
		if size == 0 {
			return nil
		}
		n := min(size, int64(len(chunk)))
		if _, err := io.ReadFull(body, chunk[:n]); err != nil {
			return fmt.Errorf("%w: %d bytes before its end: %w", errBody, size, unexpectedEOF(err))
		}
		b.begin()
		b.data(chunk[:n])
		b.end(frameChunk, 0, group)
		size -= n
	}
}

// ping shows the receiver that the sender lives while the body is slow to read or the receiver
// is busy with it.
func (s *snapshotSender) ping(ctx context.Context) {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	var b batch
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		b.ping()
		if s.write(&b) != nil {
			return
		}
	}
}

// readResult waits for the receiver's answer for as long as it shows signs of life.
func readResult(conn net.Conn) error {
	r := newFrameReader(conn, handshakeBodyBytes, handshakeBodyBytes)
	for {
		h, payload, err := r.next()
		if err != nil {
			return fmt.Errorf("no answer: %w", unexpectedEOF(err))
		}
		switch {
		case h.frameType == framePing:
		case h.frameType == frameResult && h.kind == 0:
			return nil
		case h.frameType == frameResult:
			return fmt.Errorf("%w: %s", ErrSnapshotRefused, payload)
		default:
			return fmt.Errorf("%w: type %d towards the sender", errDamaged, h.frameType)
		}
	}
}
