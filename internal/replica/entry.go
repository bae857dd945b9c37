package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A packed entry is the payload of a raft entry that carries commands:
//
//	 0        1                9           13
//	┌────────┬────────────────┬───────────┬───────────────────────────────────────┐
//	│ format │ proposer clock │ commands  │ { length (uvarint) │ command } × commands │
//	│  u8    │ i64 ns, unix   │ u32       │                                       │
//	└────────┴────────────────┴───────────┴───────────────────────────────────────┘
//
// Integers are little endian. Format 1 is the only one so far. The log's checksums protect the
// bytes; nothing here does. An entry without data is raft's own (a new leader's first).
const (
	entryFormat     = 1
	entryHeaderSize = 1 + 8 + 4
)

var errEntry = errors.New("replica: malformed entry")

// commandSize is the size of one packed command of n bytes.
func commandSize(n int) int {
	size := n + 1
	for v := uint64(n); v >= 0x80; v >>= 7 {
		size++
	}
	return size
}

// packer builds the payload of one entry.
type packer struct{ buf []byte }

func (p *packer) begin(size int, clock int64) {
	p.buf = make([]byte, entryHeaderSize, entryHeaderSize+size)
	p.buf[0] = entryFormat
	binary.LittleEndian.PutUint64(p.buf[1:], uint64(clock))
}

func (p *packer) add(command []byte) {
	p.buf = binary.AppendUvarint(p.buf, uint64(len(command)))
	p.buf = append(p.buf, command...)
}

func (p *packer) finish(commands int) []byte {
	binary.LittleEndian.PutUint32(p.buf[9:], uint32(commands))
	return p.buf
}

// Unpacked iterates over the commands of a packed entry.
type Unpacked struct {
	Clock    int64 // the proposer's wall clock, ns since 1970
	Commands int   // how many commands the entry carries
	rest     []byte
}

// Unpack reads the header of a packed entry.
func Unpack(data []byte) (Unpacked, error) {
	if len(data) < entryHeaderSize {
		return Unpacked{}, fmt.Errorf("%w: %d bytes, want at least %d", errEntry, len(data),
			entryHeaderSize)
	}
	if data[0] != entryFormat {
		return Unpacked{}, fmt.Errorf("%w: format %d, this version reads format %d: it was "+
			"written by a newer version", errEntry, data[0], entryFormat)
	}
	return Unpacked{
		Clock:    int64(binary.LittleEndian.Uint64(data[1:])),
		Commands: int(binary.LittleEndian.Uint32(data[9:])),
		rest:     data[entryHeaderSize:],
	}, nil
}

// Next returns the next command; it aliases the entry. Call it Commands times.
func (u *Unpacked) Next() ([]byte, error) {
	n, size := binary.Uvarint(u.rest)
	if size <= 0 || uint64(len(u.rest)-size) < n {
		return nil, fmt.Errorf("%w: a command reaches beyond the entry", errEntry)
	}
	command := u.rest[size : size+int(n)]
	u.rest = u.rest[size+int(n):]
	return command, nil
}
