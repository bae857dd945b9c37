package server

import (
	"io"

	"golang.org/x/sync/semaphore"
)

const (
	inBytesFirst = 4 << 10  // what an idle connection costs
	inBytesKeep  = 64 << 10 // a buffer that had to grow beyond this is given back when it is empty
)

// inBuffer holds what a client sent and nobody has used yet. It grows when it is full, so its size
// is at most twice what the client really sent for one command, whatever it announced. What it
// grows beyond inBytesKeep comes out of a budget that all connections share.
type inBuffer struct {
	b          []byte
	start, end int
	budget     *semaphore.Weighted
	taken      int64 // of the budget
}

func newInBuffer(budget *semaphore.Weighted) *inBuffer {
	return &inBuffer{b: make([]byte, inBytesFirst), budget: budget}
}

// release gives the memory back; the buffer is not used after it.
func (in *inBuffer) release() {
	in.budget.Release(in.taken)
	in.b, in.taken = nil, 0
}

// unused returns what is there; it is valid until the next call of fill.
func (in *inBuffer) unused() []byte { return in.b[in.start:in.end] }

// use marks the first n bytes of unused as used.
func (in *inBuffer) use(n int) { in.start += n }

// errNoMemory: the budget for large commands is used up at the moment.
const errNoMemory = protocolError("OVERLOADED too many large commands are arriving; not applied, " +
	"try again later")

// fill reads once from r; it waits until at least one byte is there. After errNoMemory nothing was
// read.
func (in *inBuffer) fill(r io.Reader) error {
	if !in.makeRoom() {
		return errNoMemory
	}
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

// makeRoom leaves room behind the unused bytes; false means that there is no memory for it.
func (in *inBuffer) makeRoom() bool {
	if in.start == in.end {
		in.reset()
		return true
	}
	if in.end < len(in.b) {
		return true
	}
	to := in.b
	if in.end-in.start > len(in.b)/2 {
		size := 2 * len(in.b)
		if size > inBytesKeep {
			more := int64(size) - in.taken
			if !in.budget.TryAcquire(more) {
				return false
			}
			in.taken += more
		}
		to = make([]byte, size)
	}
	in.end = copy(to, in.b[in.start:in.end])
	in.start, in.b = 0, to
	return true
}

// reset begins at the front of the empty buffer.
func (in *inBuffer) reset() {
	wasFull := in.end == len(in.b)
	in.start, in.end = 0, 0
	if len(in.b) > inBytesKeep {
		in.release()
		in.b = make([]byte, inBytesFirst)
	} else if wasFull && len(in.b) < inBytesKeep {
		in.b = make([]byte, 2*len(in.b)) // the client sends more at a time than fits
	}
}
