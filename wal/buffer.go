package wal

// buffer is a write on its way to the disk: encoded bytes with the data of large entries between
// them. That data is written from where it lies, because nobody changes an entry that was given to
// the log; to copy it would cost as much again as to compute its checksum.
type buffer struct {
	// encoded has everything but the splices.
	encoded []byte
	splices []splice
	spliced int // bytes of all splices
	parts   [][]byte
}

// splice is data that belongs between two bytes of buffer.encoded.
type splice struct {
	at   int // in encoded
	data []byte
}

// spliceBytes is the size from which on it costs less to write data as a part of its own than to
// copy it.
const spliceBytes = 16 << 10

// bufferBytesKept bounds the memory that is kept from one write to the next.
const bufferBytesKept = 8 << 20

// size is how many bytes the write has so far.
func (b *buffer) size() int { return len(b.encoded) + b.spliced }

// put appends a copy of data.
func (b *buffer) put(data []byte) { b.encoded = append(b.encoded, data...) }

// splice appends data without a copy.
func (b *buffer) splice(data []byte) {
	b.splices = append(b.splices, splice{at: len(b.encoded), data: data})
	b.spliced += len(data)
}

// pad appends zeros until there is a multiple of align bytes behind the first from.
func (b *buffer) pad(from, align int) {
	for need := -(b.size() - from) & (align - 1); need > 0; {
		n := min(need, len(zeros))
		b.put(zeros[:n])
		need -= n
	}
}

// vector returns the write in parts, which are valid until the next change.
func (b *buffer) vector() [][]byte {
	b.parts = b.parts[:0]
	from := 0
	for _, s := range b.splices {
		b.parts = append(b.parts, b.encoded[from:s.at], s.data)
		from = s.at
	}
	b.parts = append(b.parts, b.encoded[from:])
	return b.parts
}

// reset empties the buffer and lets go of what others own.
func (b *buffer) reset() {
	if cap(b.encoded) > bufferBytesKept {
		b.encoded = nil
	}
	clear(b.splices)
	clear(b.parts)
	b.encoded, b.splices, b.parts, b.spliced = b.encoded[:0], b.splices[:0], b.parts[:0], 0
}
