package wal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// fuzzSeeds are frames of every kind, for the fuzz targets to begin with.
func fuzzSeeds() [][]byte {
	entry := func(index uint64, data []byte) *raftpb.Entry {
		return &raftpb.Entry{Index: new(index), Term: new(uint64(3)),
			Type: raftpb.EntryConfChangeV2.Enum(), Data: data}
	}
	state := State{Term: 3, Vote: 2, Commit: 1}
	var seeds [][]byte
	for _, f := range []struct {
		h   header
		src frameSource
	}{
		{header{kind: frameAppend, group: 1, state: state, first: 5, priorTerm: 2, base: 1},
			frameSource{entries: []*raftpb.Entry{entry(5, []byte("five")), entry(6, nil), entry(7, []byte{})}}},
		{header{kind: frameAppend, flags: flagMark | flagConf, group: 1, first: 9, base: 8},
			frameSource{conf: []byte{8, 1}}},
		{header{kind: frameCheckpoint, flags: flagFence | flagConf, group: 2, first: 4, base: 3},
			frameSource{floor: 10, conf: []byte{8, 1, 8, 2}}},
		{header{kind: frameCompact, group: 1, first: 20, base: 15, baseTerm: 2}, frameSource{}},
		{header{kind: frameRemove, group: 1, first: 1}, frameSource{}},
		{header{kind: frameFence, flags: flagFence, group: 1, first: 1}, frameSource{floor: 3}},
		{header{kind: frameFill, group: 1, first: 2, base: 1},
			frameSource{entries: []*raftpb.Entry{entry(2, bytes.Repeat([]byte{7}, 100))}}},
	} {
		h := f.h
		seeds = append(seeds, encodeFrame(&h, &f.src, saltOf(7, 1), 512))
	}
	return seeds
}

func encodeFrame(h *header, src *frameSource, salt uint32, base int64) []byte {
	var b buffer
	putFrame(&b, h, src, salt, base)
	return slices.Concat(b.vector()...)
}

// sign gives a frame the checksums that its bytes call for, so that the fuzzer gets past them.
func sign(b []byte, salt uint32, offset int64) {
	if len(b) < frameHeaderBytes {
		return
	}
	le := binary.LittleEndian
	le.PutUint16(b[6:], frameMagic)
	at := int64(frameHeaderBytes) + alignUp(int64(le.Uint32(b[100:])), frameAlign)
	sum := uint32(0)
	if at <= int64(len(b)) {
		sum = crc32.Update(salt, castagnoli, b[frameHeaderBytes:at])
	}
	for at+entryHeaderBytes <= int64(len(b)) {
		end := at + entryBytes(wordBytes(le.Uint32(b[at+4:])))
		if end > int64(len(b)) {
			break
		}
		le.PutUint32(b[at:], crc32.Update(salt^uint32(offset+at), castagnoli, b[at+4:end]))
		sum = addSum(sum, le.Uint32(b[at:]))
		at = end
	}
	le.PutUint32(b[104:], sum)
	le.PutUint32(b[108:], crc32.Update(salt^uint32(offset), castagnoli, b[:108]))
}

// FuzzFrame decodes arbitrary bytes as a frame. What decodes must encode to the same bytes again,
// and never decode at another place or in another segment.
func FuzzFrame(f *testing.F) {
	for _, seed := range fuzzSeeds() {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, signed bool) {
		const offset = 512
		salt := saltOf(7, 1)
		if signed {
			b = bytes.Clone(b)
			sign(b, salt, offset)
		}
		h, ok := decodeHeader(b, salt, offset)
		if !ok || h.frameBytes() > int64(len(b)) {
			return
		}
		b = b[:h.frameBytes()]
		if _, elsewhere := decodeHeader(b, salt, offset+8); elsewhere {
			t.Fatal("the frame validates at another offset")
		}
		if _, elsewhere := decodeHeader(b, saltOf(7, 2), offset); elsewhere {
			t.Fatal("the frame validates in another segment")
		}
		places, ok := h.verify(b[frameHeaderBytes:], salt, offset, nil)
		if !ok {
			return
		}
		if len(places) != int(h.entries) {
			t.Fatalf("%d places of %d entries", len(places), h.entries)
		}
		recode(t, h, b, places, salt, offset)
	})
}

// recode encodes what was decoded and compares. Bytes that no encoder writes (padding that is not
// zero, a type that is unknown) are allowed to differ.
func recode(t *testing.T, h header, b []byte, places []location, salt uint32, offset int64) {
	floor, conf := h.headOf(b[frameHeaderBytes:])
	src := frameSource{floor: floor, conf: conf}
	canonical := true
	for i, p := range places {
		at := int64(p.offset) - offset
		data := b[at+entryHeaderBytes:][:wordBytes(p.word)]
		if p.word&entryPresent == 0 {
			canonical = canonical && len(data) == 0
			data = nil
		}
		canonical = canonical && allZero(b[at+entryHeaderBytes+int64(len(data)):at+p.size()])
		src.entries = append(src.entries, &raftpb.Entry{Index: new(h.first + uint64(i)),
			Term: &p.term, Type: new(wordType(p.word)), Data: data})
	}
	head := int64(frameHeaderBytes + h.headBytes)
	canonical = canonical && allZero(b[head:alignUp(head, frameAlign)])
	again := h
	if got := encodeFrame(&again, &src, salt, offset); canonical && !bytes.Equal(got, b) {
		t.Fatalf("decoded and encoded again:\n%x\nwas\n%x", got, b)
	}
}

// FuzzSegment scans arbitrary bytes as a segment: search finds exactly the headers that decode.
func FuzzSegment(f *testing.F) {
	for _, seed := range fuzzSeeds() {
		f.Add(append(make([]byte, 512), seed...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := scanner{file: bytes.NewReader(b), size: int64(len(b)), salt: saltOf(7, 1)}
		at := int64(0)
		for at < s.size {
			found, _, err := s.search(at, s.size)
			if err != nil {
				t.Fatal(err)
			}
			for ; at < found; at += frameAlign {
				if _, ok := decodeHeader(b[min(at, s.size):], s.salt, at); ok {
					t.Fatalf("search missed the header at %d", at)
				}
			}
			if found >= s.size {
				break
			}
			if _, ok := decodeHeader(b[found:], s.salt, found); !ok {
				t.Fatalf("search found no header at %d", found)
			}
			if _, _, _, err := s.frame(found); err != nil {
				t.Fatal(err)
			}
			at = found + frameAlign
		}
		if _, _, err := s.durableEnd(0); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzSuperblock(f *testing.F) {
	s := superblock{counter: 3, identity: Identity{ClusterID: "c", NodeID: 1, Incarnation: 2},
		segment: 4, durable: 512, sequence: 9, clean: true,
		groups: []superblockGroup{{id: 1, sequence: 5, last: 7, lastTerm: 2, fence: 8}}}
	f.Add(s.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		if len(b) >= superblockHeadBytes+8 {
			size := int(binary.LittleEndian.Uint32(b[12:]))
			if size >= 4 && size <= len(b) {
				binary.LittleEndian.PutUint32(b[size-4:], crc32.Checksum(b[:size-4], castagnoli))
			}
		}
		got, ok := decodeSuperblock(b)
		if !ok {
			return
		}
		if again, ok := decodeSuperblock(got.encode()); !ok || again.sequence != got.sequence ||
			len(again.groups) != len(got.groups) {
			t.Fatalf("decoded %+v, again %+v", got, again)
		}
	})
}
