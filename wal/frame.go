package wal

import (
	"encoding/binary"
	"hash/crc32"
)

// A frame is what one update of one group becomes. It starts at a multiple of 8 and is little
// endian:
//
//	 0  u32  payload bytes, a multiple of 8
//	 4  u8   type            5  u8  flags            6  u16  0xC0DA
//	 8  u64  sequence        frames of a log are numbered one by one
//	16  u64  previous        sequence of the group's frame before this one, 0 for its first
//	24  u64  durable         bytes of this segment that were synced when this was written
//	32  u64  group
//	40  u64  term           48  u64  vote           56  u64  commit
//	64  u64  first           index of the first entry here, or last index + 1
//	72  u64  prior term      term of the entry at first-1
//	80  u64  base           88  u64  base term       the log of the group begins behind base
//	96  u32  entries
//	100 u32  head bytes      of the payload, before padding to 8
//	104 u32  payload sum     of the CRC32C of the head with its padding and those of the entries
//	108 u32  header CRC      CRC32C of bytes 0 to 107
//	112      payload: head (u64 floor with flagFence, raftpb.ConfState with flagConf), entries
//
// An entry starts at a multiple of 8:
//
//	 0  u32  CRC32C of bytes 4 to the end of the padding
//	 4  u32  bits 0-27 data bytes, bits 28-30 raftpb.EntryType, bit 31 data is present
//	 8  u64  term
//	16       data, zeros up to a multiple of 8
//
// Every CRC starts from salt XOR the offset of the header or entry in its file, where salt is the
// CRC32C of incarnation and segment id. For given bytes a CRC is a bijection of its start, so a
// frame that was shifted inside its segment never validates, and neither does one of another
// segment or log, nor what a client wrote to look like one, short of guessing 32 bits of a secret.
//
// The payload is summed in parts, its head and each entry: an entry read back later is verified
// without the rest of its frame, and no byte is summed twice. The payload sum ties the parts to the
// header, for parts of a frame that was torn may stand where parts of this one belong: it begins
// with the CRC of the head, and for each entry is rotated by 5 bits and XORed with the entry's CRC.
// State, first, prior term
// and base stand in every header, so a frame that is lost is made good by the next one of its
// group: by the log matching property (Raft thesis, 3.5) equal terms at first-1 mean equal logs
// up to there.
const (
	frameHeaderBytes = 112
	entryHeaderBytes = 16
	frameAlign       = 8
	frameMagic       = 0xC0DA
	payloadBytesMax  = 1 << 30
	entryBytesMax    = 1<<28 - 1

	entryTypeShift = 28
	entryTypeMax   = 7
	entryPresent   = 1 << 31
)

type frameType uint8

const (
	// frameAppend has entries, state and with flagMark a new beginning of the log.
	frameAppend frameType = 1 + iota
	// frameCompact moves the base.
	frameCompact
	// frameRemove ends the group.
	frameRemove
	// frameCheckpoint repeats at the head of a segment what older segments say of the group.
	frameCheckpoint
	// frameFill gives entries whose place is gone; it moves neither end of the log.
	frameFill
	// frameFence raises the fence of the group (flagFence) or lifts it.
	frameFence
	frameTypeEnd
)

const (
	// flagMark: the log is emptied and begins behind base.
	flagMark = 1 << iota
	// flagConf: the head has a ConfState.
	flagConf
	// flagFence: the group is fenced, the head begins with its floor.
	flagFence
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the decoded header of a frame.
type header struct {
	payloadBytes          uint32
	kind                  frameType
	flags                 uint8
	sequence, previous    uint64
	durable               uint64
	group                 uint64
	state                 State
	first, priorTerm      uint64
	base, baseTerm        uint64
	entries, headBytes    uint32
	payloadSum, headerCRC uint32
}

func (h *header) has(flag uint8) bool { return h.flags&flag != 0 }

// frameBytes is the size of the whole frame.
func (h *header) frameBytes() int64 { return frameHeaderBytes + int64(h.payloadBytes) }

// last is the last index of the group's log behind this frame, unless it is a frameFill.
func (h *header) last() uint64 { return h.first + uint64(h.entries) - 1 }

func alignUp(n, align int64) int64 { return (n + align - 1) &^ (align - 1) }

// saltOf is where the CRCs of a segment start.
func saltOf(incarnation, segment uint64) uint32 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[0:], incarnation)
	binary.LittleEndian.PutUint64(b[8:], segment)
	return crc32.Checksum(b[:], castagnoli)
}

// put encodes the header with its CRC to b, which holds the frame that starts at offset.
func (h *header) put(b []byte, salt uint32, offset int64) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], h.payloadBytes)
	b[4], b[5] = byte(h.kind), h.flags
	le.PutUint16(b[6:], frameMagic)
	for i, v := range [...]uint64{h.sequence, h.previous, h.durable, h.group, h.state.Term,
		h.state.Vote, h.state.Commit, h.first, h.priorTerm, h.base, h.baseTerm} {
		le.PutUint64(b[8+8*i:], v)
	}
	le.PutUint32(b[96:], h.entries)
	le.PutUint32(b[100:], h.headBytes)
	le.PutUint32(b[104:], h.payloadSum)
	h.headerCRC = crc32.Update(salt^uint32(offset), castagnoli, b[:108])
	le.PutUint32(b[108:], h.headerCRC)
}

// mayBeHeader tells cheaply whether a header may begin at b, which has 8 bytes.
func mayBeHeader(b []byte) bool {
	return binary.LittleEndian.Uint16(b[6:]) == frameMagic && b[4] != 0 && b[4] < byte(frameTypeEnd)
}

// decodeHeader decodes the header that stands at offset of a segment. It reports false for
// anything that put has not made for this place.
func decodeHeader(b []byte, salt uint32, offset int64) (header, bool) {
	if len(b) < frameHeaderBytes || !mayBeHeader(b) {
		return header{}, false
	}
	le := binary.LittleEndian
	h := header{
		payloadBytes: le.Uint32(b[0:]), kind: frameType(b[4]), flags: b[5],
		sequence: le.Uint64(b[8:]), previous: le.Uint64(b[16:]), durable: le.Uint64(b[24:]),
		group: le.Uint64(b[32:]),
		state: State{Term: le.Uint64(b[40:]), Vote: le.Uint64(b[48:]), Commit: le.Uint64(b[56:])},
		first: le.Uint64(b[64:]), priorTerm: le.Uint64(b[72:]),
		base: le.Uint64(b[80:]), baseTerm: le.Uint64(b[88:]),
		entries: le.Uint32(b[96:]), headBytes: le.Uint32(b[100:]),
		payloadSum: le.Uint32(b[104:]), headerCRC: le.Uint32(b[108:]),
	}
	if crc32.Update(salt^uint32(offset), castagnoli, b[:108]) != h.headerCRC {
		return header{}, false
	}
	return h, h.plausible()
}

// plausible checks what a correct encoder can never write, so that code behind it need not.
func (h *header) plausible() bool {
	head := alignUp(int64(h.headBytes), frameAlign)
	least := head + entryHeaderBytes*int64(h.entries)
	return h.payloadBytes%frameAlign == 0 && h.payloadBytes <= payloadBytesMax &&
		least <= int64(h.payloadBytes) && h.first > 0 && h.first+uint64(h.entries) >= h.first &&
		h.base < h.first && (!h.has(flagFence) || h.headBytes >= 8)
}
