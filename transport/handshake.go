package transport

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"
)

// The dialler opens a connection with a hello, the acceptor answers with a welcome. Both are
//
//	 0          8         10         12            16
//	+----------+---------+----------+-------------+------+-----------+
//	| magic    | first   | second   | body length | body | crc       |
//	+----------+---------+----------+-------------+------+-----------+
//	  8 bytes    u16       u16        u32                  u32, CRC-32C of all before
//
// In a hello, first and second are the oldest and newest protocol version that the dialler
// speaks, and the body is
//
//	u64 node id · u64 id of the node that it means to reach · u64 incarnation · u8 lane ·
//	u16 length and cluster id · u16 length and own peer address
//
// In a welcome, first is the version that both will speak (in a refusal, the newest that the
// acceptor speaks), second is zero or the reason for a refusal, and the body is
//
//	u64 node id · u64 incarnation · u16 length and cluster id · u16 length and text for people
//
// The layout is the same in every version; later versions may append to the bodies, and readers
// skip what they do not know. Nothing else travels before a welcome with reason zero, so an
// acceptor that closes after a refusal leaves no unread bytes that could destroy it.
const (
	helloMagic   = "CNCTPEER"
	welcomeMagic = "CNCTREPL"

	// protocolVersion is both the oldest and the newest version this package speaks.
	protocolVersion = 1

	handshakePrefixBytes = 16
	handshakeBodyBytes   = 4096 // more is refused
	handshakeTimeout     = 5 * time.Second
	handshakeStringBytes = 1024 // of each string in a body
)

// The lanes of a connection, as the hello tells them.
const (
	laneUrgent   = 0
	laneBulk     = 1
	laneSnapshot = 2
	laneCount    = 2 // lanes with a stream of their own for as long as the peer is known
)

// refusalReason tells the dialler why it is not welcome.
type refusalReason uint16

const (
	accepted           refusalReason = 0
	unsupportedVersion refusalReason = 1
	wrongCluster       refusalReason = 2
	wrongNode          refusalReason = 3
	ownID              refusalReason = 4
	notAdmitted        refusalReason = 5
	removedNode        refusalReason = 6
	tooMany            refusalReason = 7
	malformedHello     refusalReason = 8
)

func (r refusalReason) String() string {
	names := [...]string{
		"accepted", "unsupported version", "wrong cluster", "wrong node", "own id",
		"not admitted", "removed node", "too many connections", "malformed hello",
	}
	if int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("reason %d", uint16(r))
}

type hello struct {
	versionMin, versionMax uint16
	node, target           uint64
	incarnation            uint64
	lane                   uint8
	cluster, address       string
}

type welcome struct {
	version     uint16
	reason      refusalReason
	node        uint64
	incarnation uint64
	cluster     string
	text        string
}

func (h hello) encode() []byte {
	b := appendHandshakePrefix(helloMagic, h.versionMin, h.versionMax)
	b = binary.LittleEndian.AppendUint64(b, h.node)
	b = binary.LittleEndian.AppendUint64(b, h.target)
	b = binary.LittleEndian.AppendUint64(b, h.incarnation)
	b = append(b, h.lane)
	b = appendString(b, h.cluster)
	b = appendString(b, h.address)
	return finishHandshake(b)
}

func (w welcome) encode() []byte {
	b := appendHandshakePrefix(welcomeMagic, w.version, uint16(w.reason))
	b = binary.LittleEndian.AppendUint64(b, w.node)
	b = binary.LittleEndian.AppendUint64(b, w.incarnation)
	b = appendString(b, w.cluster)
	b = appendString(b, w.text)
	return finishHandshake(b)
}

func appendHandshakePrefix(magic string, first, second uint16) []byte {
	b := make([]byte, 0, 256)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, first)
	b = binary.LittleEndian.AppendUint16(b, second)
	return binary.LittleEndian.AppendUint32(b, 0)
}

func appendString(b []byte, s string) []byte {
	s = s[:min(len(s), handshakeStringBytes)]
	b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func finishHandshake(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[12:], uint32(len(b)-handshakePrefixBytes))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func readHello(r io.Reader) (hello, error) {
	first, second, body, err := readHandshake(r, helloMagic)
	if err != nil {
		return hello{}, err
	}
	h := hello{versionMin: first, versionMax: second}
	h.node = body.uint64()
	h.target = body.uint64()
	h.incarnation = body.uint64()
	h.lane = body.uint8()
	h.cluster = body.string()
	h.address = body.string()
	return h, body.err()
}

func readWelcome(r io.Reader) (welcome, error) {
	first, second, body, err := readHandshake(r, welcomeMagic)
	if err != nil {
		return welcome{}, err
	}
	w := welcome{version: first, reason: refusalReason(second)}
	w.node = body.uint64()
	w.incarnation = body.uint64()
	w.cluster = body.string()
	w.text = body.string()
	return w, body.err()
}

// readHandshake reads one handshake message and not a byte more. It gives up at the first byte
// that is not the magic's, so that a stranger is told apart without waiting for more.
func readHandshake(
	r io.Reader, magic string,
) (first, second uint16, body handshakeBody, err error) {
	prefix := make([]byte, handshakePrefixBytes)
	for n := 0; n < len(prefix); {
		m, err := r.Read(prefix[n:])
		n += m
		if got := prefix[:min(n, len(magic))]; !strings.HasPrefix(magic, string(got)) {
			return 0, 0, body, &strangerError{start: bytes.Clone(prefix[:n])}
		}
		if err != nil && n < len(prefix) {
			return 0, 0, body, fmt.Errorf("handshake: %w", err)
		}
	}
	length := binary.LittleEndian.Uint32(prefix[12:])
	if length > handshakeBodyBytes {
		return 0, 0, body, fmt.Errorf("%w: handshake of %d bytes", errDamaged, length)
	}
	rest := make([]byte, length+4)
	if _, err := io.ReadFull(r, rest); err != nil {
		return 0, 0, body, fmt.Errorf("handshake: %w", unexpectedEOF(err))
	}
	sum := crc32.Update(crc32.Checksum(prefix, castagnoli), castagnoli, rest[:length])
	if sum != binary.LittleEndian.Uint32(rest[length:]) {
		return 0, 0, body, fmt.Errorf("%w: handshake checksum", errDamaged)
	}
	first, second = binary.LittleEndian.Uint16(prefix[8:]), binary.LittleEndian.Uint16(prefix[10:])
	return first, second, handshakeBody{rest: rest[:length]}, nil
}

// handshakeBody reads a body; short is set when it ends early.
type handshakeBody struct {
	rest  []byte
	short bool
}

func (b *handshakeBody) next(n int) []byte {
	if len(b.rest) < n {
		b.short = true
		return make([]byte, n)
	}
	p := b.rest[:n]
	b.rest = b.rest[n:]
	return p
}

func (b *handshakeBody) uint8() uint8   { return b.next(1)[0] }
func (b *handshakeBody) uint64() uint64 { return binary.LittleEndian.Uint64(b.next(8)) }

func (b *handshakeBody) string() string {
	return string(b.next(int(binary.LittleEndian.Uint16(b.next(2)))))
}

func (b *handshakeBody) err() error {
	if b.short {
		return fmt.Errorf("%w: handshake body cut short", errDamaged)
	}
	return nil
}
