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

// putEntry appends the encoded entry to b, which goes to offset base of the segment, and returns
// its CRC.
func putEntry(b *buffer, e *raftpb.Entry, salt uint32, base int64) uint32 {
	from, at := b.size(), len(b.encoded)
	b.encoded = binary.LittleEndian.AppendUint32(b.encoded, 0)
	b.encoded = binary.LittleEndian.AppendUint32(b.encoded, entryWord(e))
	b.encoded = binary.LittleEndian.AppendUint64(b.encoded, e.GetTerm())
	crc := crc32.Update(salt^uint32(base+int64(from)), castagnoli, b.encoded[at+4:])
	data, summed := e.GetData(), len(b.encoded)
	if len(data) >= spliceBytes {
		b.splice(data)
		crc = crc32.Update(crc, castagnoli, data)
	} else {
		b.put(data)
	}
	b.pad(from, frameAlign)
	crc = crc32.Update(crc, castagnoli, b.encoded[summed:])
	binary.LittleEndian.PutUint32(b.encoded[at:], crc)
	return crc
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
		sum = addSum(sum, binary.LittleEndian.Uint32(payload[at:]))
		places = append(places, location{term: term, offset: uint32(place), word: word})
		at += size
	}
	return places, at == len(payload) && sum == h.payloadSum
}

// addSum adds the CRC of an entry to the sum of a payload.
func addSum(sum, crc uint32) uint32 { return bits.RotateLeft32(sum, 5) ^ crc }

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

// putFrame appends a whole frame to b, which goes to offset base of the segment, a multiple of 8.
// It sets the sizes and checksums of h.
func putFrame(b *buffer, h *header, src *frameSource, salt uint32, base int64) {
	from, at := b.size(), len(b.encoded)
	b.put(zeros[:frameHeaderBytes])
	if h.has(flagFence) {
		b.encoded = binary.LittleEndian.AppendUint64(b.encoded, src.floor)
	}
	b.put(src.conf)
	h.headBytes = uint32(b.size() - from - frameHeaderBytes)
	b.pad(from, frameAlign)
	h.payloadSum = crc32.Update(salt, castagnoli, b.encoded[at+frameHeaderBytes:])
	for _, e := range src.entries {
		h.payloadSum = addSum(h.payloadSum, putEntry(b, e, salt, base))
	}
	h.entries = uint32(len(src.entries))
	h.payloadBytes = uint32(b.size() - from - frameHeaderBytes)
	h.put(b.encoded[at:], salt, base+int64(from))
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
