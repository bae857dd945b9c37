package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"
)

// A frame is a header and a payload. All numbers are little-endian.
//
//	 0        4      5      6          8                 16            20           24
//	+--------+------+------+----------+-----------------+-------------+------------+---------+
//	| length | type | kind | reserved | group           | payload crc | header crc | payload |
//	+--------+------+------+----------+-----------------+-------------+------------+---------+
//	  u32      u8     u8     u16 = 0    u64               u32           u32          length bytes
//
// Both checksums are CRC-32C: the header's covers the 20 bytes before it, the payload's covers
// the payload. The header has one of its own because the length decides how much memory is
// taken and how long the reader waits, before the payload can be checked.
const frameHeaderBytes = 24

// The types of frames. The peer protocol's version covers their meaning, so a frame of another
// type is an error of the peer and ends the connection.
const (
	frameRaft     = 1 // messages of one group, see codec.go
	frameRequest  = 2 // an opaque payload; kind is the caller's
	framePing     = 3 // empty: says that the sender lives
	frameSnapshot = 4 // opens a snapshot stream: u64 body size, then a MsgSnap as in frameRaft
	frameChunk    = 5 // the next bytes of the snapshot's body
	frameResult   = 6 // the receiver's answer to a snapshot: kind 0 = stored, else payload = why
)

const (
	// readBufferBytes is large enough to take what a busy lane writes at once in few reads.
	readBufferBytes = 64 << 10
	// hungTimeout is how long a connection may go without progress before it is given up. It is
	// a multiple of pingInterval, so that one delayed ping costs nothing.
	hungTimeout = 10 * time.Second
	// pingInterval is how long a writer is silent before it sends a ping.
	pingInterval = 2 * time.Second
	// refreshInterval is how often deadlines are moved and, by acceptors, signs of life are
	// sent while bytes arrive. Doing so for each read would cost as much as the read.
	refreshInterval = time.Second
)

// castagnoli is never written after its initialisation.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged marks bytes that are not what the peer can have meant to send: a checksum that
// does not match, a length beyond the limit, a message that does not decode.
var errDamaged = errors.New("damaged frame")

type frameHeader struct {
	length     uint32
	kind       Kind
	frameType  uint8
	group      uint64
	payloadCRC uint32
}

func putFrameHeader(b []byte, h frameHeader) {
	_ = b[frameHeaderBytes-1]
	binary.LittleEndian.PutUint32(b[0:], h.length)
	b[4] = h.frameType
	b[5] = byte(h.kind)
	binary.LittleEndian.PutUint16(b[6:], 0)
	binary.LittleEndian.PutUint64(b[8:], h.group)
	binary.LittleEndian.PutUint32(b[16:], h.payloadCRC)
	binary.LittleEndian.PutUint32(b[20:], crc32.Checksum(b[:20], castagnoli))
}

func parseFrameHeader(b []byte, limit int64) (frameHeader, error) {
	_ = b[frameHeaderBytes-1]
	want, got := binary.LittleEndian.Uint32(b[20:]), crc32.Checksum(b[:20], castagnoli)
	if want != got {
		return frameHeader{}, fmt.Errorf("%w: header checksum %08x, computed %08x",
			errDamaged, want, got)
	}
	h := frameHeader{
		length:     binary.LittleEndian.Uint32(b[0:]),
		frameType:  b[4],
		kind:       Kind(b[5]),
		group:      binary.LittleEndian.Uint64(b[8:]),
		payloadCRC: binary.LittleEndian.Uint32(b[16:]),
	}
	if int64(h.length) > limit {
		return frameHeader{}, fmt.Errorf("%w: payload of %d bytes, limit %d",
			errDamaged, h.length, limit)
	}
	if b[6] != 0 || b[7] != 0 {
		return frameHeader{}, fmt.Errorf("%w: reserved bytes are not zero", errDamaged)
	}
	return h, nil
}

// frameReader reads frames from a connection through one buffer, so that a small frame costs
// one read. It is used by one goroutine.
type frameReader struct {
	conn   net.Conn
	limit  int64
	buffer []byte
	start  int // unread bytes are buffer[start:end]
	end    int

	refreshed time.Time
	// onRefresh runs before a read, at most once in refreshInterval. It may be nil.
	onRefresh func() error
}

func newFrameReader(conn net.Conn, limit int64, bufferBytes int) *frameReader {
	return &frameReader{conn: conn, limit: limit, buffer: make([]byte, bufferBytes)}
}

// next returns the next frame. The payload is freshly allocated with exactly its size and
// belongs to the caller: what the payload's parts are kept for never pins the read buffer.
func (r *frameReader) next() (frameHeader, []byte, error) {
	if err := r.fill(frameHeaderBytes); err != nil {
		return frameHeader{}, nil, err
	}
	h, err := parseFrameHeader(r.buffer[r.start:r.end], r.limit)
	if err != nil {
		return frameHeader{}, nil, err
	}
	r.start += frameHeaderBytes
	if h.length == 0 {
		return h, nil, checkPayload(h, nil)
	}
	payload := make([]byte, h.length)
	n := copy(payload, r.buffer[r.start:r.end])
	r.start += n
	for n < len(payload) {
		m, err := r.read(payload[n:])
		n += m
		if err != nil && n < len(payload) {
			return frameHeader{}, nil, unexpectedEOF(err)
		}
	}
	return h, payload, checkPayload(h, payload)
}

func checkPayload(h frameHeader, payload []byte) error {
	if got := crc32.Checksum(payload, castagnoli); got != h.payloadCRC {
		return fmt.Errorf("%w: payload checksum %08x, computed %08x",
			errDamaged, h.payloadCRC, got)
	}
	return nil
}

// fill reads until at least n bytes are buffered. It returns io.EOF only between frames.
func (r *frameReader) fill(n int) error {
	if r.end-r.start >= n {
		return nil
	}
	if len(r.buffer)-r.start < n || r.start == r.end {
		r.end = copy(r.buffer, r.buffer[r.start:r.end])
		r.start = 0
	}
	for r.end-r.start < n {
		m, err := r.read(r.buffer[r.end:])
		r.end += m
		if err != nil && r.end-r.start < n {
			if r.end > r.start {
				err = unexpectedEOF(err)
			}
			return err
		}
	}
	return nil
}

// read reads once. It moves the deadline before the read, not after: a caller that was busy with
// the frame before for longer than the deadline finds the bytes that arrived meanwhile.
func (r *frameReader) read(p []byte) (int, error) {
	if now := time.Now(); now.Sub(r.refreshed) >= refreshInterval {
		if err := r.refresh(now); err != nil {
			return 0, err
		}
	}
	return r.conn.Read(p)
}

func (r *frameReader) refresh(now time.Time) error {
	r.refreshed = now
	if err := r.conn.SetReadDeadline(now.Add(hungTimeout)); err != nil {
		return err
	}
	if r.onRefresh == nil {
		return nil
	}
	return r.onRefresh()
}

func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// pingFrame returns an empty frame that only shows that the sender lives.
func pingFrame() []byte {
	b := make([]byte, frameHeaderBytes)
	putFrameHeader(b, frameHeader{frameType: framePing})
	return b
}
