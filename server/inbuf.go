package server

import "io"

const (
	inBytesFirst = 4 << 10  // what an idle connection costs
	inBytesKeep  = 64 << 10 // a buffer that had to grow beyond this is given back when it is empty
)

// inBuffer holds what a client sent and nobody has used yet. It grows when it is full, so its size
// is at most twice what the client really sent for one command, whatever it announced.
type inBuffer struct {
	b          []byte
	start, end int
}

func newInBuffer() *inBuffer { return &inBuffer{b: make([]byte, inBytesFirst)} }

// unused returns what is there; it is valid until the next call of fill.
func (in *inBuffer) unused() []byte { return in.b[in.start:in.end] }

// use marks the first n bytes of unused as used.
func (in *inBuffer) use(n int) { in.start += n }

// fill reads once from r; it waits until at least one byte is there.
func (in *inBuffer) fill(r io.Reader) error {
	in.makeRoom()
	n, err := r.Read(in.b[in.end:])
	in.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// makeRoom leaves room behind the unused bytes.
func (in *inBuffer) makeRoom() {
	if in.start == in.end {
		wasFull := in.end == len(in.b)
		in.start, in.end = 0, 0
		if len(in.b) > inBytesKeep {
			in.b = make([]byte, inBytesFirst)
		} else if wasFull && len(in.b) < inBytesKeep {
			in.b = make([]byte, 2*len(in.b)) // the client sends more at a time than fits
		}
		return
	}
	if in.end < len(in.b) {
		return
	}
	to := in.b
	if in.end-in.start > len(in.b)/2 {
		to = make([]byte, 2*len(in.b))
	}
	in.end = copy(to, in.b[in.start:in.end])
	in.start, in.b = 0, to
}
