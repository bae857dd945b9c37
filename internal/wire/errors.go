package wire

import (
	"errors"
	"fmt"
)

var (
	// ErrPreamble: the other side does not speak this protocol, or not this version of it. The
	// connection is of no use.
	ErrPreamble = errors.New("wire: not a preamble of this protocol version")
	// ErrChecksum: a frame was damaged on its way. What follows it cannot be trusted, so the
	// connection must be closed.
	ErrChecksum = errors.New("wire: frame checksum does not match")
	// ErrFrame: the content of a sound frame is not what its kind says. The sender is at fault.
	ErrFrame = errors.New("wire: malformed frame")
	// ErrCommand: bytes that are no encoding of a command.
	ErrCommand = errors.New("wire: malformed command")
)

// SizeError is returned for a frame whose declared size is out of range, before any memory is
// taken for it. The connection must be closed.
type SizeError struct {
	Declared uint32
	Limit    int // the largest frame the reader takes
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("wire: frame of %d bytes: want %d to %d", e.Declared, bodyMin, e.Limit)
}
