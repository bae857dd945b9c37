package wal

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// entryBytes is the encoded size of an entry with so much data.
func entryBytes(data int) int64 { return alignUp(entryHeaderBytes+int64(data), frameAlign) }

// entryWord packs data length, type and presence of data.
func entryWord(e *raftpb.Entry) uint32 {
	w := uint32(len(e.GetData())) | uint32(e.GetType())<<entryTypeShift
	if e.Data != nil {
		w |= entryPresent
	}
	return w
}

func wordBytes(word uint32) int { return int(word & entryBytesMax) }

func wordType(word uint32) raftpb.EntryType {
	return raftpb.EntryType(word >> entryTypeShift & entryTypeMax)
}

// putEntry appends the encoded entry to b. base is the offset in the segment of b[0].
func putEntry(b []byte, e *raftpb.Entry, salt uint32, base int64) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, entryWord(e))
	b = binary.LittleEndian.AppendUint64(b, e.GetTerm())
	crc := crc32.Update(salt^uint32(base+int64(at)), castagnoli, b[at+4:])
	summed := len(b)
	for data := e.GetData(); len(data) > 0; {
		n := min(len(data), encodeStepBytes)
		b = append(b, data[:n]...)
		crc = crc32.Update(crc, castagnoli, b[summed:])
		summed, data = len(b), data[n:]
	}
	b = pad(b, at, frameAlign)
	crc = crc32.Update(crc, castagnoli, b[summed:])
	binary.LittleEndian.PutUint32(b[at:], crc)
	return b
}

// encodeStepBytes is how much is copied before it is summed, little enough to be in the cache still.
const encodeStepBytes = 32 << 10

// pad appends zeros until b has a multiple of align bytes behind at.
func pad(b []byte, at, align int) []byte {
	for len(b)-at >= 0 && (len(b)-at)%align != 0 {
		need := align - (len(b)-at)%align
		b = append(b, zeros[:min(need, len(zeros))]...)
	}
	return b
}

var zeros [sectorBytes]byte

// entryAt verifies the entry whose encoding starts at b and returns its whole encoded size; 0 if
// it does not verify. offset is its place in the segment.
func entryAt(b []byte, salt uint32, offset int64) (word uint32, term uint64, size int) {
	if len(b) < entryHeaderBytes {
		return 0, 0, 0
	}
	word = binary.LittleEndian.Uint32(b[4:])
	size = int(entryBytes(wordBytes(word)))
	if size > len(b) {
		return 0, 0, 0
	}
	crc := crc32.Update(salt^uint32(offset), castagnoli, b[4:size])
	if crc != binary.LittleEndian.Uint32(b) {
		return 0, 0, 0
	}
	return word, binary.LittleEndian.Uint64(b[8:]), size
}

// headOf returns the head of a payload, which holds at least that.
func (h *header) headOf(payload []byte) (floor uint64, conf []byte) {
	head := payload[:h.headBytes]
	if h.has(flagFence) {
		floor, head = binary.LittleEndian.Uint64(head), head[8:]
	}
	return floor, head
}

// verify checks the payload of the frame at offset. It appends the places of the entries to places,
// which are good only if the whole is.
func (h *header) verify(payload []byte, salt uint32, offset int64, places []location) (
	[]location, bool) {
	head := int(alignUp(int64(h.headBytes), frameAlign))
	sum, at := crc32.Update(salt, castagnoli, payload[:head]), head
	for range h.entries {
		place := offset + frameHeaderBytes + int64(at)
		word, term, size := entryAt(payload[at:], salt, place)
		if size == 0 {
			return places, false
		}
		sum = addSum(sum, payload[at:])
		places = append(places, location{term: term, offset: uint32(place), word: word})
		at += size
	}
	return places, at == len(payload) && sum == h.payloadSum
}

// addSum adds the CRC of the entry at b to the sum of a payload.
func addSum(sum uint32, b []byte) uint32 {
	return bits.RotateLeft32(sum, 5) ^ binary.LittleEndian.Uint32(b)
}

// frameSource is what a frame is encoded from besides its header.
type frameSource struct {
	floor   uint64
	conf    []byte
	entries []*raftpb.Entry
}

// frameBytesOf is the encoded size of a frame.
func frameBytesOf(h *header, src *frameSource) int64 {
	n := int64(len(src.conf))
	if h.has(flagFence) {
		n += 8
	}
	n = alignUp(n, frameAlign)
	for _, e := range src.entries {
		n += entryBytes(len(e.GetData()))
	}
	return frameHeaderBytes + n
}

// putFrame appends a whole frame to b. base is the offset in the segment of b[0], a multiple of 8.
// It sets the sizes and checksums of h.
func putFrame(b []byte, h *header, src *frameSource, salt uint32, base int64) []byte {
	at := len(b)
	b = append(b, zeros[:frameHeaderBytes]...)
	if h.has(flagFence) {
		b = binary.LittleEndian.AppendUint64(b, src.floor)
	}
	b = append(b, src.conf...)
	h.headBytes = uint32(len(b) - at - frameHeaderBytes)
	b = pad(b, at, frameAlign)
	h.payloadSum = crc32.Update(salt, castagnoli, b[at+frameHeaderBytes:])
	for _, e := range src.entries {
		start := len(b)
		b = putEntry(b, e, salt, base)
		h.payloadSum = addSum(h.payloadSum, b[start:])
	}
	h.entries = uint32(len(src.entries))
	h.payloadBytes = uint32(len(b) - at - frameHeaderBytes)
	h.put(b[at:], salt, base+int64(at))
	return b
}

// confBytes encodes a ConfState; nil for nil.
func confBytes(conf *raftpb.ConfState) ([]byte, error) {
	if conf == nil {
		return nil, nil
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(conf)
}

// decodeConf is the inverse of confBytes for a frame with flagConf.
func decodeConf(b []byte) (*raftpb.ConfState, error) {
	conf := new(raftpb.ConfState)
	if err := proto.Unmarshal(b, conf); err != nil {
		return nil, err
	}
	return conf, nil
}
