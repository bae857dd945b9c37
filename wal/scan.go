package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// scanBytes is how much a scanner reads at once, unless a frame is larger.
const scanBytes = 1 << 20

// frameStatus says what stands at some place of a segment.
type frameStatus uint8

const (
	frameNone  frameStatus = iota // no valid header
	frameTorn                     // a valid header with a payload that does not verify
	frameWhole                    // a valid frame
)

// scanner reads a segment from front to back through one buffer.
type scanner struct {
	file io.ReaderAt
	salt uint32
	// size is the number of bytes that the file has.
	size int64
	buf  []byte // holds the file from offset from on
	from int64
	// array is the memory for buf.
	array []byte
	// ready, if not nil, has what was read before its turn.
	ready *prescan
	// refused are the pieces, by their number, that the disk did not read. Their bytes are taken for
	// zeros.
	refused map[int64]error
	// progress is called with the bytes of each read.
	progress func(n int)
	// places are the entries of the frame that frame returned last.
	places []location
}

// window returns n bytes from offset on, fewer at the end of the file. They are valid until the
// next call.
func (s *scanner) window(offset int64, n int64) ([]byte, error) {
	if n = min(n, s.size-offset); n <= 0 {
		return nil, nil
	}
	if offset < s.from || offset+n > s.from+int64(len(s.buf)) {
		if err := s.fill(offset, n); err != nil {
			return nil, err
		}
	}
	at := offset - s.from
	return s.buf[at : at+n], nil
}

// fill makes the buffer hold n bytes from offset on, and more of the file behind them. What it has
// of them already is not read again.
//
// Of what follows a large frame only the next header is read along: whatever it had of the next
// frame it would have to move to the front.
func (s *scanner) fill(offset, n int64) error {
	more := int64(len(s.kept(offset))) + scanBytes
	if n >= scanBytes/4 {
		more = alignUp(offset+n, sectorBytes) - offset + frameHeaderBytes
	}
	return s.read(offset, min(max(n, more), s.size-offset))
}

// kept is what the buffer has from offset on.
func (s *scanner) kept(offset int64) []byte {
	if offset >= s.from && offset < s.from+int64(len(s.buf)) {
		return s.buf[offset-s.from:]
	}
	return nil
}

// read makes the buffer hold n bytes from offset on, which the file has.
func (s *scanner) read(offset, n int64) error {
	kept := s.kept(offset)
	if int64(len(s.array)) < n {
		room := n
		if n >= scanBytes {
			room = min(n+scanBytes, s.size)
		}
		s.array = make([]byte, room)
	}
	copy(s.array, kept)
	s.buf, s.from = s.array[:n], offset
	rest, at := s.buf[len(kept):], offset+int64(len(kept))
	read, err := s.file.ReadAt(rest, at)
	switch {
	case err == nil || errors.Is(err, io.EOF) && read == len(rest):
	case errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed):
		s.buf = s.buf[:0]
		return err
	default:
		s.readPieces(rest, at)
	}
	if s.progress != nil {
		s.progress(len(rest))
	}
	return nil
}

// pieceBytes is the unit in which a file is read that the disk refuses to read as a whole.
const pieceBytes = 4 << 10

// readPieces reads what a large read could not, piece by piece.
func (s *scanner) readPieces(b []byte, at int64) {
	for len(b) > 0 {
		number := at / pieceBytes
		p := b[:min((number+1)*pieceBytes-at, int64(len(b)))]
		n, err := s.file.ReadAt(p, at)
		if err != nil && !(errors.Is(err, io.EOF) && n == len(p)) {
			clear(p)
			if s.refused == nil {
				s.refused = make(map[int64]error)
			}
			s.refused[number] = err
		}
		b, at = b[len(p):], at+int64(len(p))
	}
}

// refusal returns the error of the disk if it refused to read some of [from, to).
func (s *scanner) refusal(from, to int64) error {
	for number := from / pieceBytes; len(s.refused) > 0 && number*pieceBytes < to; number++ {
		if err := s.refused[number]; err != nil {
			return err
		}
	}
	return nil
}

// frame returns what stands at offset. The payload, of which only the head is sure to be there, and
// the places are valid until the next call.
func (s *scanner) frame(offset int64) (frameStatus, header, []byte, error) {
	if f, head, places := s.ready.at(offset); f != nil {
		if f.padding {
			return frameNone, header{}, nil, nil
		}
		s.places = places
		return frameWhole, f.header, head, nil
	}
	b, err := s.window(offset, frameHeaderBytes)
	if err != nil {
		return frameNone, header{}, nil, err
	}
	h, ok := decodeHeader(b, s.salt, offset)
	if !ok {
		return frameNone, header{}, nil, nil
	}
	if b, err = s.window(offset, h.frameBytes()); err != nil {
		return frameNone, header{}, nil, err
	}
	if int64(len(b)) < h.frameBytes() {
		return frameTorn, h, nil, nil
	}
	s.places, ok = h.verify(b[frameHeaderBytes:], s.salt, offset, s.places[:0])
	if !ok {
		return frameTorn, h, nil, nil
	}
	return frameWhole, h, b[frameHeaderBytes:], nil
}

// search returns the first place in [offset, limit) that has a valid header; offset is a multiple
// of 8. It returns limit if there is none.
func (s *scanner) search(offset, limit int64) (int64, header, error) {
	limit = min(limit, s.size)
	for offset < limit {
		b, err := s.window(offset, min(scanBytes, limit-offset+frameHeaderBytes))
		if err != nil {
			return 0, header{}, err
		}
		for i := nextMagic(b, 0); i+frameHeaderBytes <= len(b) && offset+int64(i) < limit; {
			if h, ok := decodeHeader(b[i:], s.salt, offset+int64(i)); ok {
				return offset + int64(i), h, nil
			}
			i = nextMagic(b, i+frameAlign)
		}
		step := alignUp(int64(len(b))-frameHeaderBytes+1, frameAlign)
		if step <= 0 {
			break
		}
		offset += step
	}
	return limit, header{}, nil
}

// nextMagic returns the first multiple of 8 from i on at which a header may begin, len(b) if there
// is none. Most of what is searched is zero or far from looking like a header, so the search goes
// by the first byte of the magic.
func nextMagic(b []byte, i int) int {
	const at = 6 // of the magic in a header
	for i += at; i < len(b); i++ {
		k := bytes.IndexByte(b[i:], frameMagic&0xFF)
		if k < 0 {
			break
		}
		if i += k; i%frameAlign == at && i+1 < len(b) && mayBeHeader(b[i-at:]) {
			return i - at
		}
	}
	return len(b)
}

// durableEnd returns the highest durable offset that any frame from offset on tells of, and
// whether there is any frame.
func (s *scanner) durableEnd(offset int64) (end int64, found bool, _ error) {
	for offset < s.size {
		at, h, err := s.search(offset, s.size)
		if err != nil {
			return 0, false, err
		}
		if at >= s.size {
			break
		}
		found = true
		end = max(end, int64(min(h.durable, uint64(s.size))))
		offset = at + h.frameBytes()
	}
	return end, found, nil
}

// padding says whether [offset, end), where no frame stands, is the end of a write.
func (s *scanner) padding(offset, end int64) (bool, error) {
	if f, _, _ := s.ready.at(offset); f != nil {
		return f.padding, nil
	}
	if offset == end || end > s.size {
		return false, nil
	}
	return s.zeroUntil(offset, end)
}

// zeroUntil says whether [offset, end) is zero, as far as the file has it.
func (s *scanner) zeroUntil(offset, end int64) (bool, error) {
	for offset < min(end, s.size) {
		b, err := s.window(offset, min(scanBytes, end-offset))
		if err != nil || !allZero(b) {
			return false, err
		}
		offset += int64(len(b))
	}
	return true, nil
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
