package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// snapshotLinger is how long the receiver of a snapshot waits for the sender to close after the
// answer. Closing first, with chunks unread, would reset the connection and could destroy the
// answer on its way.
const snapshotLinger = 5 * time.Second

// snapshotReceiver reads one snapshot stream.
type snapshotReceiver struct {
	transport *Transport
	peer      *peer
	conn      net.Conn
	reader    *frameReader

	// writing has a token while a sign of life or the answer is being written.
	writing chan struct{}
}

// receiveSnapshots serves a connection of the snapshot lane, which carries one snapshot.
func (t *Transport) receiveSnapshots(conn net.Conn, p *peer) {
	select {
	case t.snapshots <- struct{}{}:
		defer func() { <-t.snapshots }()
	default:
		w := t.reply()
		w.reason = tooMany
		w.text = fmt.Sprintf("node %d is receiving %d snapshots", t.options.NodeID, snapshotsMax)
		conn.Write(w.encode())
		return
	}
	if t.answer(conn) != nil {
		return
	}
	r := snapshotReceiver{
		transport: t, peer: p, conn: conn, writing: make(chan struct{}, 1),
		reader: newFrameReader(conn, t.options.MaxFrameBytes, readBufferBytes),
	}
	if err := r.run(); err != nil && p.ctx.Err() == nil {
		p.lastFailed(err)
		if errors.Is(err, errDamaged) {
			p.damaged.Add(1)
		}
		t.logPeer(slog.LevelWarn, "snapshot not received", p, "remote", conn.RemoteAddr().String(),
			"reason", reasonOf(err))
	}
}

func (r *snapshotReceiver) run() error {
	group, m, size, err := r.open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.peer.ctx)
	defer cancel()
	bodyReader, bodyWriter := io.Pipe()
	var running sync.WaitGroup
	running.Go(func() { r.signs(ctx, cancel) })
	var linger *time.Timer
	running.Go(func() {
		handler := r.transport.options.Handler
		handlerErr := handler.HandleSnapshot(ctx, r.peer.id, group, m, size, bodyReader)
		// What the handler left unread is skipped from here on.
		bodyReader.CloseWithError(errBodyAbandoned)
		linger = r.answer(handlerErr)
	})
	err = r.receive(bodyWriter, size)
	r.conn.Close()
	cancel()
	running.Wait()
	linger.Stop()
	return err
}

// errBodyAbandoned is what writing to the body returns once the handler is done with it.
var errBodyAbandoned = errors.New("handler has returned")

// open reads the frame that begins the stream.
func (r *snapshotReceiver) open() (group uint64, m *raftpb.Message, size int64, err error) {
	h, payload, err := r.reader.next()
	if err != nil {
		return 0, nil, 0, err
	}
	if h.frameType != frameSnapshot || len(payload) < 8 {
		return 0, nil, 0, fmt.Errorf("%w: type %d opens a snapshot", errDamaged, h.frameType)
	}
	claimed := binary.LittleEndian.Uint64(payload)
	if claimed > 1<<62 {
		return 0, nil, 0, fmt.Errorf("%w: snapshot of %d bytes", errDamaged, claimed)
	}
	messages, err := decodeMessages(payload[8:], r.transport.options.MaxFrameBytes)
	if err != nil {
		return 0, nil, 0, err
	}
	if len(messages) != 1 {
		return 0, nil, 0, fmt.Errorf("%w: %d messages open a snapshot", errDamaged, len(messages))
	}
	return h.group, messages[0], int64(claimed), nil
}

// receive feeds the body to the handler and then waits for the sender to close.
func (r *snapshotReceiver) receive(body *io.PipeWriter, size int64) error {
	if size == 0 {
		body.Close()
	}
	for {
		h, payload, err := r.reader.next()
		r.peer.received(payload)
		if err == nil && h.frameType != framePing && h.frameType != frameChunk {
			err = fmt.Errorf("%w: type %d in a snapshot", errDamaged, h.frameType)
		}
		if err == nil && int64(len(payload)) > size {
			err = fmt.Errorf("%w: snapshot is longer than announced", errDamaged)
		}
		if err != nil {
			ended := errors.Is(err, io.EOF) && size == 0
			body.CloseWithError(unexpectedEOF(err))
			if ended {
				return nil
			}
			return err
		}
		if len(payload) == 0 {
			continue
		}
		size -= int64(len(payload))
		body.Write(payload) // fails only when the handler is done with the body
		if size == 0 {
			body.Close()
		}
	}
}

// signs shows the sender that this node lives while the handler is at work.
func (r *snapshotReceiver) signs(ctx context.Context, broken context.CancelFunc) {
	ticker := time.NewTicker(refreshInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if r.write(pingFrame()) != nil {
			broken()
			return
		}
	}
}

func (r *snapshotReceiver) write(frame []byte) error {
	r.writing <- struct{}{}
	defer func() { <-r.writing }()
	if err := r.conn.SetWriteDeadline(time.Now().Add(hungTimeout)); err != nil {
		return err
	}
	_, err := r.conn.Write(frame)
	return err
}

// answer tells the sender how the handler fared, and closes the connection after a while if the
// sender does not.
func (r *snapshotReceiver) answer(handlerErr error) (linger *time.Timer) {
	var b batch
	b.begin()
	kind := Kind(0)
	if handlerErr != nil {
		kind = 1
		text := handlerErr.Error()
		b.data([]byte(text[:min(len(text), handshakeStringBytes)]))
	}
	b.end(frameResult, kind, 0)
	r.write(b.buffer) // a sender that cannot be told finds out by itself
	return time.AfterFunc(snapshotLinger, func() { r.conn.Close() })
}
