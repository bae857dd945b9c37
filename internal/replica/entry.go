package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// A packed entry is the payload of a raft entry that carries commands:
//
//	 0        1                9           13
//	┌────────┬────────────────┬───────────┬────────────────────┐
//	│ format │ proposer clock │ commands  │ command × commands │
//	│  u8    │ i64 ns, unix   │ u32       │                    │
//	└────────┴────────────────┴───────────┴────────────────────┘
//
// and each command in it is
//
//	┌────────────────────────────┬─────────────────────────────────────────────────┬──────┐
//	│ length << 1 | special      │ only when special is 1:                         │ data │
//	│ uvarint, the length of data│ session uvarint, sequence uvarint, acked uvarint│      │
//	└────────────────────────────┴─────────────────────────────────────────────────┴──────┘
//
// so that an ordinary command of less than 64 bytes costs one byte. A special command of session 0
// is one of the system. Integers are little endian. Format 2 is the only one so far. The log's
// checksums protect the bytes; nothing here does. An entry without data is raft's own (a new
// leader's first).
const (
	entryFormat     = 2
	entryHeaderSize = 1 + 8 + 4
	special         = 1
)

var errEntry = errors.New("replica: malformed entry")

// Command is one command as it travels in entries and between nodes.
type Command struct {
	// Session is the session that the command belongs to; 0 = none.
	Session uint64
	// Sequence is the command's number within its session, and Acked the number up to which the
	// session's owner has all answers.
	Sequence, Acked uint64
	// System marks a command that is not for the state machine but for what replicates beside it.
	// It has no session.
	System bool
	Data   []byte
}

// Size is the number of bytes that AppendCommand adds for c.
func (c Command) Size() int {
	size := uvarintSize(uint64(len(c.Data))<<1) + len(c.Data)
	if c.Session != 0 || c.System {
		size += uvarintSize(c.Session) + uvarintSize(c.Sequence) + uvarintSize(c.Acked)
	}
	return size
}

func uvarintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// AppendCommand appends the encoding of c to dst.
func AppendCommand(dst []byte, c Command) []byte {
	head := uint64(len(c.Data)) << 1
	if c.Session == 0 && !c.System {
		return append(binary.AppendUvarint(dst, head), c.Data...)
	}
	dst = binary.AppendUvarint(dst, head|special)
	dst = binary.AppendUvarint(dst, c.Session)
	dst = binary.AppendUvarint(dst, c.Sequence)
	dst = binary.AppendUvarint(dst, c.Acked)
	return append(dst, c.Data...)
}

// ParseCommand reads the command at the beginning of src and returns what follows it. The command's
// data aliases src.
func ParseCommand(src []byte) (c Command, rest []byte, err error) {
	if len(src) > 0 && src[0] < 0x80 && src[0]&special == 0 { // most are like this
		if n := int(src[0]>>1) + 1; n <= len(src) {
			return Command{Data: src[1:n:n]}, src[n:], nil
		}
	}
	head, size := binary.Uvarint(src)
	if size <= 0 {
		return Command{}, nil, errCommand
	}
	rest = src[size:]
	if head&special != 0 {
		if rest, err = c.parseSpecial(rest); err != nil {
			return Command{}, nil, err
		}
	}
	n := head >> 1
	if uint64(len(rest)) < n {
		return Command{}, nil, errCommand
	}
	c.Data = rest[:n:n]
	return c, rest[n:], nil
}

var errCommand = fmt.Errorf("%w: a command reaches beyond its end", errEntry)

func (c *Command) parseSpecial(src []byte) (rest []byte, err error) {
	for _, field := range [...]*uint64{&c.Session, &c.Sequence, &c.Acked} {
		v, size := binary.Uvarint(src)
		if size <= 0 {
			return nil, errCommand
		}
		*field, src = v, src[size:]
	}
	c.System = c.Session == 0
	return src, nil
}

// packer builds the payload of one entry.
type packer struct{ buf []byte }

func (p *packer) begin(size int, clock int64) {
	p.buf = make([]byte, entryHeaderSize, entryHeaderSize+size)
	p.buf[0] = entryFormat
	binary.LittleEndian.PutUint64(p.buf[1:], uint64(clock))
}

func (p *packer) add(c Command) { p.buf = AppendCommand(p.buf, c) }

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
		return Unpacked{}, fmt.Errorf("%w: format %d, this version reads format %d: another "+
			"version has written it", errEntry, data[0], entryFormat)
	}
	return Unpacked{
		Clock:    int64(binary.LittleEndian.Uint64(data[1:])),
		Commands: int(binary.LittleEndian.Uint32(data[9:])),
		rest:     data[entryHeaderSize:],
	}, nil
}

// Next returns the next command; its data aliases the entry. Call it Commands times.
func (u *Unpacked) Next() (c Command, err error) {
	c, u.rest, err = ParseCommand(u.rest)
	return c, err
}
