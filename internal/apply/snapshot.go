package apply

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	snapshotFormat = 1
	// blockBytesMax refuses a block that no state within its limits can have: a session that is
	// full has answers beyond its limit by the size of two.
	blockBytesMax = 1 << 30
)

// Snapshot writes the whole state to w. The position is not part of it: it goes with the snapshot's
// own meta data, and comes back through Restore.
func (s *Stage) Snapshot(w io.Writer) error {
	b := blocks{w: w}
	b.buf = append(b.buf, snapshotFormat)
	b.add(s.directory.appendTo)
	b.add(s.catalog.appendTo)
	b.add(s.sessions.appendHead)
	for one := s.sessions.oldest; one != nil; one = one.newer {
		b.add(one.appendTo)
	}
	if err := b.flush(); err != nil {
		return fmt.Errorf("apply: write snapshot: %w", err)
	}
	return s.machine.Snapshot(w)
}

// blocks writes blocks, many small ones at once.
type blocks struct {
	w   io.Writer
	buf []byte
	err error
}

const blockBufferBytes = 64 << 10

func (b *blocks) add(appendTo func([]byte) []byte) {
	at := len(b.buf)
	b.buf = appendTo(append(b.buf, 0, 0, 0, 0))
	n := len(b.buf) - at - 4
	if n > blockBytesMax && b.err == nil {
		b.err = fmt.Errorf("a block of %d bytes", n)
	}
	binary.LittleEndian.PutUint32(b.buf[at:], uint32(n))
	if len(b.buf) >= blockBufferBytes {
		_ = b.flush() // the error stays in b
	}
}

func (b *blocks) flush() error {
	if b.err == nil {
		_, b.err = b.w.Write(b.buf)
	}
	b.buf = b.buf[:0]
	return b.err
}

// Restore replaces the whole state by what Snapshot wrote at a position. Everything before the
// machine's part is read before the machine is touched.
func (s *Stage) Restore(at Position, r io.Reader) error {
	restored := &Stage{machine: s.machine, at: at, sessions: newSessions()}
	restored.sessions.limits = s.sessions.limits
	if err := restored.readPreamble(r); err != nil {
		return fmt.Errorf("apply: restore snapshot %d: %w", at.Index, err)
	}
	if err := s.machine.Restore(r); err != nil {
		return err
	}
	*s = *restored
	return nil
}

func (s *Stage) readPreamble(r io.Reader) error {
	var format [1]byte
	if _, err := io.ReadFull(r, format[:]); err != nil {
		return err
	}
	if format[0] != snapshotFormat {
		return otherFormat("snapshot", format[0], snapshotFormat)
	}
	block, err := readBlock(r)
	if err != nil {
		return err
	}
	if s.directory, err = parseDirectory(block, s.at.Members); err != nil {
		return err
	}
	if block, err = readBlock(r); err != nil {
		return err
	}
	if err := s.catalog.parse(block); err != nil {
		return err
	}
	return s.readSessions(r)
}

func (s *Stage) readSessions(r io.Reader) error {
	block, err := readBlock(r)
	if err != nil {
		return err
	}
	count, err := s.sessions.parseHead(block)
	if err != nil {
		return err
	}
	for range count {
		if block, err = readBlock(r); err != nil {
			return err
		}
		one, err := parseSession(block)
		if err != nil {
			return err
		}
		s.sessions.add(one)
	}
	return nil
}

// readBlock reads one block. Its memory grows with what is there, not with what a length claims.
func readBlock(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(head[:]))
	if n > blockBytesMax {
		return nil, fmt.Errorf("%w: a block of %d bytes", ErrMalformed, n)
	}
	block, err := io.ReadAll(io.LimitReader(r, n))
	if err == nil && int64(len(block)) < n {
		err = io.ErrUnexpectedEOF
	}
	return block, err
}
