package wire

import "encoding/binary"

// Level says how fresh the answer to a read must be. Values are part of the protocol.
type Level uint8

const (
	// Linearizable: it reflects everything acknowledged before.
	Linearizable Level = 0
	// Lease: the same, by the leader's lease while it has one.
	Lease Level = 1
	// AtLeast: it reflects the log up to the index Bound.
	AtLeast Level = 2
	// Stale: it reflects everything acknowledged Bound microseconds before; 0 = any age.
	Stale Level = 3
)

// Request is what a request says besides its payload. The content of a frame is, with varints where
// nothing else is said,
//
//	write:          group │ session │ sequence │ acked │ command
//	read:           group │ u8 level │ bound │ query
//	open session:   group
//	close session:  group │ session
//
// and goes on to the end of the frame. Group 0 is the first one, which every cluster has.
type Request struct {
	Group uint64
	// A write in a session is applied once, however often it is sent with the same sequence: from
	// 1 on, a new one for each command. The client has the answers of every sequence up to Acked,
	// or does not need them. All are 0 without a session.
	Session, Sequence, Acked uint64
	Level                    Level
	Bound                    uint64
}

func (r *Request) append(dst []byte, kind Kind) []byte {
	dst = binary.AppendUvarint(dst, r.Group)
	switch kind {
	case Write:
		dst = binary.AppendUvarint(dst, r.Session)
		dst = binary.AppendUvarint(dst, r.Sequence)
		dst = binary.AppendUvarint(dst, r.Acked)
	case Read:
		dst = append(dst, byte(r.Level))
		dst = binary.AppendUvarint(dst, r.Bound)
	case CloseSession:
		dst = binary.AppendUvarint(dst, r.Session)
	}
	return dst
}

// parseRequest is the inverse of append; rest is the payload.
func parseRequest(kind Kind, src []byte) (r Request, rest []byte, ok bool) {
	d := requestDecoder{rest: src}
	r.Group = d.uvarint()
	switch kind {
	case Write:
		r.Session, r.Sequence, r.Acked = d.uvarint(), d.uvarint(), d.uvarint()
		inSession := r.Session != 0
		d.failed = d.failed || inSession != (r.Sequence != 0) || !inSession && r.Acked != 0
	case Read:
		r.Level, r.Bound = Level(d.u8()), d.uvarint()
		d.failed = d.failed || r.Level > Stale
	case OpenSession:
		d.failed = d.failed || len(d.rest) > 0
	case CloseSession:
		r.Session = d.uvarint()
		d.failed = d.failed || len(d.rest) > 0
	default:
		d.failed = true
	}
	return r, d.rest, !d.failed
}

type requestDecoder struct {
	rest   []byte
	failed bool
}

func (d *requestDecoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.failed = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *requestDecoder) u8() byte {
	if len(d.rest) == 0 {
		d.failed = true
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

// AppendSession appends the payload of the reply that opens a session.
func AppendSession(dst []byte, id uint64) []byte { return binary.AppendUvarint(dst, id) }

// ParseSession is the inverse of AppendSession; ok is false when src is nothing of the kind.
func ParseSession(src []byte) (id uint64, ok bool) {
	id, n := binary.Uvarint(src)
	return id, n == len(src) && n > 0 && id != 0
}
