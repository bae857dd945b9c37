package transport

import (
	"encoding/binary"
	"hash/crc32"
	"net"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	// referenceBytes is the size from which data is handed to the kernel where it lies instead
	// of being copied next to the frame around it.
	referenceBytes = 16 << 10
	// batchBytes is what one write aims at. More gains nothing and holds memory.
	batchBytes = 1 << 20
)

// batch collects frames for one write. Small data is copied into one buffer; large data is
// referenced, which is safe because what is sent is never written to. It is used by one
// goroutine and reused from write to write.
type batch struct {
	buffer     []byte
	references []reference
	frames     int

	frameStart     int // of the open frame, in buffer
	frameReference int // first reference of the open frame
	out            net.Buffers
}

// reference is data that belongs between buffer[:at] and buffer[at:].
type reference struct {
	at   int
	data []byte
}

// reset forgets the frames, and the memory too where a rare large frame has grown it.
func (b *batch) reset() {
	if cap(b.buffer) > 4*batchBytes {
		b.buffer = nil
	}
	clear(b.references)
	b.buffer, b.references, b.frames = b.buffer[:0], b.references[:0], 0
}

func (b *batch) empty() bool { return b.frames == 0 }

// begin opens a frame; what follows until end is its payload.
func (b *batch) begin() {
	b.frameStart = len(b.buffer)
	b.frameReference = len(b.references)
	b.buffer = append(b.buffer, make([]byte, frameHeaderBytes)...)
}

// end closes the open frame by writing its header.
func (b *batch) end(frameType uint8, kind Kind, group uint64) {
	length, sum, at := 0, uint32(0), b.frameStart+frameHeaderBytes
	for _, r := range b.references[b.frameReference:] {
		sum = crc32.Update(sum, castagnoli, b.buffer[at:r.at])
		sum = crc32.Update(sum, castagnoli, r.data)
		length += r.at - at + len(r.data)
		at = r.at
	}
	sum = crc32.Update(sum, castagnoli, b.buffer[at:])
	length += len(b.buffer) - at
	putFrameHeader(b.buffer[b.frameStart:], frameHeader{
		length: uint32(length), frameType: frameType, kind: kind, group: group, payloadCRC: sum,
	})
	b.frames++
}

func (b *batch) uint8(v uint8)    { b.buffer = append(b.buffer, v) }
func (b *batch) uint16(v uint16)  { b.buffer = binary.LittleEndian.AppendUint16(b.buffer, v) }
func (b *batch) uint32(v uint32)  { b.buffer = binary.LittleEndian.AppendUint32(b.buffer, v) }
func (b *batch) uint64(v uint64)  { b.buffer = binary.LittleEndian.AppendUint64(b.buffer, v) }
func (b *batch) uvarint(v uint64) { b.buffer = binary.AppendUvarint(b.buffer, v) }

// data adds bytes without their length. It keeps a reference to large ones until reset.
func (b *batch) data(p []byte) {
	if len(p) < referenceBytes {
		b.buffer = append(b.buffer, p...)
		return
	}
	b.references = append(b.references, reference{at: len(b.buffer), data: p})
}

// raft adds a frame of messages of one group.
func (b *batch) raft(group uint64, messages []*raftpb.Message) {
	b.begin()
	b.messages(messages)
	b.end(frameRaft, 0, group)
}

// request adds a frame with an opaque payload.
func (b *batch) request(group uint64, kind Kind, payload []byte) {
	b.begin()
	b.data(payload)
	b.end(frameRequest, kind, group)
}

// ping adds an empty frame.
func (b *batch) ping() {
	b.begin()
	b.end(framePing, 0, 0)
}

// buffers returns the frames as the pieces of one write, valid until the next call of any
// method. Writing consumes the returned slice, not what it points to.
func (b *batch) buffers() net.Buffers {
	out, at := b.out[:0], 0
	for _, r := range b.references {
		if r.at > at {
			out = append(out, b.buffer[at:r.at])
		}
		out = append(out, r.data)
		at = r.at
	}
	if len(b.buffer) > at {
		out = append(out, b.buffer[at:])
	}
	b.out = out
	return out
}

// bytes returns the number of bytes that buffers holds.
func (b *batch) bytes() int {
	n := len(b.buffer)
	for _, r := range b.references {
		n += len(r.data)
	}
	return n
}
