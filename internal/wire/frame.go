package wire

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// Magic is the first byte of a connection that speaks the binary protocol.
const Magic = 0xC7

// Version is the version of the protocol that this package speaks.
const Version = 1

// A preamble opens a connection: the magic byte, a name and the version.
//
//	 0      1     2     3     4
//	+------+-----+-----+-----+---------+
//	| 0xC7 | 'c' | 'n' | 't' | version |
//	+------+-----+-----+-----+---------+
const preambleBytes = 5

// AppendPreamble appends what a client sends first.
func AppendPreamble(dst []byte) []byte { return append(dst, Magic, 'c', 'n', 't', Version) }

// ReadPreamble reads a client's first bytes, the magic byte among them.
func ReadPreamble(r io.Reader) error {
	var b [preambleBytes]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return fmt.Errorf("wire: read preamble: %w", err)
	}
	if string(b[:]) != string(AppendPreamble(nil)) {
		return fmt.Errorf("%w: % x", ErrPreamble, b)
	}
	return nil
}

// Kind says what a frame is.
type Kind uint8

const (
	// Write asks for a command to be applied.
	Write Kind = 1
	// Read asks for a query to be answered.
	Read Kind = 2
	// Reply answers a request.
	Reply Kind = 3
	// OpenSession asks for a session; the payload of the reply is what ParseSession takes.
	OpenSession Kind = 4
	// CloseSession forgets a session.
	CloseSession Kind = 5
)

// Frame is one request or reply.
//
//	 0        4        8                16     17
//	+--------+--------+----------------+------+-- - - - --+
//	| length | crc32c |   request id   | kind |  content  |
//	+--------+--------+----------------+------+-- - - - --+
//
// length counts the bytes from the request id on. crc32c (Castagnoli) covers the same bytes. What
// the content of a request is, request.go tells. That of a reply is
//
//	 17       18        26     27
//	+--------+---------+------+-- - - --+-- - - - --+
//	| status |  index  | size |  leader |  payload  |
//	+--------+---------+------+-- - - --+-- - - - --+
//
// where leader is the client address of the leader, size bytes of text, empty when the server is
// the leader itself or knows none. The payload of a reply whose status is not OK is a text for a
// human.
type Frame struct {
	ID      uint64
	Kind    Kind
	Request        // of any kind but a reply
	Status  Status // of a reply
	Index   uint64 // of a reply: the log index of the command, or what a read reflects
	Leader  string // of a reply: where to ask next time
	Payload []byte
}

const (
	headerBytes = 8  // length and checksum
	bodyMin     = 9  // request id and kind
	replyBytes  = 10 // status, index and the size of leader
)

// Overhead is at least what the body of a frame has beyond its payload.
const Overhead = bodyMin + replyBytes + 255

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendFrame appends the encoding of f to dst. A leader of more than 255 bytes is left out.
func AppendFrame(dst []byte, f Frame) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, headerBytes)...)
	dst = binary.LittleEndian.AppendUint64(dst, f.ID)
	dst = append(dst, byte(f.Kind))
	if f.Kind == Reply {
		if len(f.Leader) > 255 {
			f.Leader = ""
		}
		dst = append(dst, byte(f.Status))
		dst = binary.LittleEndian.AppendUint64(dst, f.Index)
		dst = append(dst, byte(len(f.Leader)))
		dst = append(dst, f.Leader...)
	} else {
		dst = f.Request.append(dst, f.Kind)
	}
	dst = append(dst, f.Payload...)
	body := dst[start+headerBytes:]
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(dst[start+4:], crc32.Checksum(body, castagnoli))
	return dst
}

// LengthBytes is how much of a frame Length needs.
const LengthBytes = 4

// Length returns the size of the body that the first bytes of a frame declare.
func Length(header []byte) uint32 { return binary.LittleEndian.Uint32(header) }

// ReadFrame reads one frame whose body is at most limit bytes. The frame's payload is memory of
// its own. io.EOF means that the other side ended the connection between two frames. Memory grows
// with what arrives, not with what the length promises.
func ReadFrame(r io.Reader, limit int) (Frame, error) {
	var header [headerBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return Frame{}, err
	}
	length := Length(header[:])
	if length < bodyMin || int64(length) > int64(limit) {
		return Frame{}, &SizeError{Declared: length, Limit: limit}
	}
	body, err := readBody(r, int(length))
	if err != nil {
		return Frame{}, err
	}
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(header[4:]) {
		return Frame{}, ErrChecksum
	}
	return parseBody(body)
}

// bodyStep is how much memory is taken ahead of the bytes that fill it.
const bodyStep = 64 << 10

func readBody(r io.Reader, length int) ([]byte, error) {
	body := make([]byte, 0, min(length, bodyStep))
	for len(body) < length {
		if len(body) == cap(body) {
			grown := make([]byte, len(body), min(length, 2*cap(body)))
			copy(grown, body)
			body = grown
		}
		n, err := io.ReadFull(r, body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
	}
	return body, nil
}

func parseBody(body []byte) (Frame, error) {
	f := Frame{ID: binary.LittleEndian.Uint64(body), Kind: Kind(body[8]), Payload: body[bodyMin:]}
	if f.Kind == Reply {
		return parseReply(f)
	}
	var ok bool
	if f.Request, f.Payload, ok = parseRequest(f.Kind, f.Payload); !ok {
		return Frame{}, fmt.Errorf("%w: request of kind %d", ErrFrame, body[8])
	}
	return f, nil
}

func parseReply(f Frame) (Frame, error) {
	rest := f.Payload
	if len(rest) < replyBytes {
		return Frame{}, fmt.Errorf("%w: reply of %d bytes", ErrFrame, len(rest))
	}
	f.Status = Status(rest[0])
	f.Index = binary.LittleEndian.Uint64(rest[1:])
	size := int(rest[9])
	rest = rest[replyBytes:]
	if len(rest) < size {
		return Frame{}, fmt.Errorf("%w: leader of %d bytes in %d", ErrFrame, size, len(rest))
	}
	f.Leader = string(rest[:size])
	f.Payload = rest[size:]
	return f, nil
}
