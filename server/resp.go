package server

import (
	"bytes"
	"fmt"
	"math"
	"strings"

	"github.com/tidwall/redcon"
)

const (
	headerBytesMax = 32       // "*3\r\n" or "$5\r\n", with room for zeros in front
	inlineBytesMax = 64 << 10 // a plain line of text
	wordsMax       = 1 << 16  // of one command, its name included
)

// protocolError is the last answer on a connection: where the client's next command begins is not
// known, so the connection must be closed.
type protocolError string

func (e protocolError) Error() string { return string(e) }

// malformed is what a client did wrong, in the form of Redis.
func malformed(what string) error { return protocolError("ERR Protocol error: " + what) }

// respParser cuts a stream of RESP into commands. redcon parses them; the parser goes ahead of it
// and looks at the headers alone, for three reasons: a declared size is refused when its header is
// seen, before memory is taken for what it promises; redcon gets whole commands only, so a large
// one that arrives in pieces is not parsed from its beginning again and again; and redcon takes
// some headers that it should not, such as negative sizes.
type respParser struct {
	bytesMax int // the most that all words of one command may have together

	scan  scanState
	words [][]byte // memory for the words of the last command
}

// scanState is how far the parser has come in an unfinished command.
type scanState struct {
	at      int  // offset from the command's first byte; what is before it was looked at
	counted bool // the header that counts the words was seen
	isEmpty bool // it counts none, or is negative; redcon takes only the former
	left    int  // words that are still to come
	total   int  // bytes of the words so far
}

// next returns the first command of buffer and its size there. Size 0 means that it is not whole
// yet; a command without words is to be ignored. The words alias buffer, and the slice of them is
// only valid until the next call.
func (p *respParser) next(buffer []byte) (words [][]byte, size int, err error) {
	if len(buffer) == 0 {
		return nil, 0, nil
	}
	switch buffer[0] {
	case '*':
		size, err = p.scanArray(buffer)
	case '$':
		err = malformed("expected '*', got '$'")
	default:
		size, err = p.scanLine(buffer)
	}
	if size == 0 || err != nil {
		return nil, 0, err
	}
	isEmpty := p.scan.isEmpty
	p.scan = scanState{}
	if isEmpty {
		return nil, size, nil
	}
	return p.parse(buffer[:size])
}

// parse lets redcon take a whole command apart.
func (p *respParser) parse(command []byte) (words [][]byte, size int, err error) {
	complete, words, _, rest, err := redcon.ReadNextCommand(command, p.words)
	if err != nil {
		return nil, 0, malformed(strings.TrimPrefix(err.Error(), "Protocol error: "))
	}
	if !complete || len(rest) > 0 {
		return nil, 0, malformed("invalid command")
	}
	p.words = words[:0]
	return words, len(command), nil
}

// scanLine looks for the end of a line of text.
func (p *respParser) scanLine(buffer []byte) (size int, err error) {
	end := bytes.IndexByte(buffer[p.scan.at:], '\n')
	if end < 0 {
		p.scan.at = len(buffer)
		end = 0
	} else {
		size = p.scan.at + end + 1
	}
	if p.scan.at+end > min(inlineBytesMax, p.bytesMax) {
		return 0, malformed("too big inline request")
	}
	return size, nil
}

// scanArray looks for the end of an array of bulk strings: "*2\r\n$3\r\nget\r\n$1\r\nk\r\n".
func (p *respParser) scanArray(buffer []byte) (size int, err error) {
	s := &p.scan
	if !s.counted {
		count, n, ok := scanHeader(buffer)
		if !ok || count > wordsMax {
			return 0, malformed("invalid multibulk length")
		}
		if n == 0 {
			return 0, nil
		}
		s.counted, s.isEmpty, s.left, s.at = true, count <= 0, max(count, 0), n
	}
	for s.left > 0 && s.at < len(buffer) {
		header := buffer[s.at:]
		if header[0] != '$' {
			return 0, malformed(fmt.Sprintf("expected '$', got '%c'", header[0]))
		}
		length, n, ok := scanHeader(header)
		if !ok || length < 0 || length > p.bytesMax-s.total {
			return 0, malformed("invalid bulk length")
		}
		if n == 0 {
			return 0, nil
		}
		s.left--
		s.total += length
		s.at += n + length + len("\r\n")
	}
	if s.left > 0 || s.at > len(buffer) {
		return 0, nil
	}
	return s.at, nil
}

// scanHeader reads "*3\r\n" or "$5\r\n"; size is 0 when the end of the line has not come yet.
func scanHeader(b []byte) (value, size int, ok bool) {
	b = b[:min(len(b), headerBytesMax)]
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return 0, 0, len(b) < headerBytesMax
	}
	if end < 2 || b[end-1] != '\r' {
		return 0, 0, false
	}
	value, ok = scanInteger(b[1 : end-1])
	return value, end + 1, ok
}

// scanInteger reads what fits into 31 bits, which is far above every limit.
func scanInteger(digits []byte) (int, bool) {
	isNegative := len(digits) > 1 && digits[0] == '-'
	if isNegative {
		digits = digits[1:]
	}
	n := int64(0)
	for _, d := range digits {
		if d < '0' || '9' < d {
			return 0, false
		}
		if n = n*10 + int64(d-'0'); n > math.MaxInt32 {
			return 0, false
		}
	}
	if isNegative {
		n = -n
	}
	return int(n), len(digits) > 0
}
