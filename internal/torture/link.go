package torture

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	chunkBytes = 32 << 10
	chunksMax  = 64 // that wait in one direction of a connection
)

// link is what one node's connections to another go through.
type link struct {
	there, back *flow // from the dialler to the acceptor, and from the acceptor to the dialler
	target      string
	accepted    atomic.Int64

	mu struct {
		sync.Mutex
		relays map[*relay]struct{}
	}
}

// relay is one connection through a link.
type relay struct {
	dialler, acceptor net.Conn
	ctx               context.Context // ends when both connections are closed
	cancel            context.CancelFunc
	damaged           atomic.Bool // a byte was changed
}

func newLink(there, back *flow, target string) *link {
	l := &link{there: there, back: back, target: target}
	l.mu.relays = make(map[*relay]struct{})
	return l
}

// serve dials the target as soon as both directions are open, since a connection cannot be made
// while either is cut, and carries bytes until both sides are closed. What source yields begins with
// the hello, which was read from dialler before.
func (l *link) serve(ctx context.Context, dialler net.Conn, source io.Reader) {
	l.accepted.Add(1)
	if !l.there.pass(ctx) || !l.back.pass(ctx) {
		return
	}
	acceptor, err := net.DialTimeout("tcp", l.target, 5*time.Second)
	if err != nil {
		return // the dialler sees its connection end, as after a refusal
	}
	defer acceptor.Close()
	r := &relay{dialler: dialler, acceptor: acceptor}
	r.ctx, r.cancel = context.WithCancel(ctx)
	defer context.AfterFunc(r.ctx, func() {
		_ = dialler.Close()
		_ = acceptor.Close()
	})()
	l.keep(r, true)
	defer l.keep(r, false)
	var pumps sync.WaitGroup
	pumps.Go(func() { r.pump(source, acceptor, l.there) })
	pumps.Go(func() { r.pump(acceptor, dialler, l.back) })
	pumps.Wait()
}

func (l *link) keep(r *relay, alive bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if alive {
		l.mu.relays[r] = struct{}{}
	} else {
		delete(l.mu.relays, r)
	}
}

// open returns the connections that are open.
func (l *link) open() (relays []*relay) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := range l.mu.relays {
		relays = append(relays, r)
	}
	return relays
}

type chunk struct {
	bytes []byte
	due   time.Time
}

// pump carries bytes in one direction. The end of the source passes the flow like a byte does, and
// then ends the whole connection: nodes do not half close.
func (r *relay) pump(from io.Reader, to io.Writer, f *flow) {
	chunks := make(chan chunk, chunksMax)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(chunks)
		r.read(from, chunks, f)
	})
	for c := range chunks {
		if !r.wait(c.due) || !f.pass(r.ctx) {
			break
		}
		f.spoil(r, c.bytes)
		if _, err := to.Write(c.bytes); err == nil {
			f.bytes.Add(int64(len(c.bytes)))
		} // else the other direction ends the connection, when it is heard
	}
	if f.pass(r.ctx) {
		r.cancel()
	}
	for range chunks { // let the reader end
	}
	reader.Wait()
}

func (r *relay) read(from io.Reader, chunks chan<- chunk, f *flow) {
	for {
		buffer := make([]byte, chunkBytes)
		n, err := from.Read(buffer)
		if n > 0 {
			select {
			case chunks <- chunk{buffer[:n], f.due()}:
			case <-r.ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (r *relay) wait(due time.Time) bool {
	d := time.Until(due)
	if due.IsZero() || d <= 0 {
		return r.ctx.Err() == nil
	}
	return sleep(r.ctx, d)
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
