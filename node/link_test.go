package node_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// link passes connections on to a target, until it cuts them.
type link struct {
	net.Listener
	target atomic.Pointer[string]
	ends   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newLink(t *testing.T) *link {
	t.Helper()
	l := &link{Listener: listen(t), conns: map[net.Conn]bool{}}
	l.target.Store(new(string)) // nobody yet
	l.ends.Go(l.accept)
	t.Cleanup(func() {
		l.Close()
		l.cut()
		l.ends.Wait()
	})
	return l
}

func (l *link) accept() {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", *l.target.Load())
		if err != nil {
			in.Close()
			continue
		}
		l.mu.Lock()
		l.conns[in], l.conns[out] = true, true
		l.mu.Unlock()
		l.ends.Go(func() { l.pass(in, out) })
		l.ends.Go(func() { l.pass(out, in) })
	}
}

// pass copies until one of the two ends, and ends both.
func (l *link) pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	l.mu.Lock()
	delete(l.conns, to)
	delete(l.conns, from)
	l.mu.Unlock()
	to.Close()
	from.Close()
}

// cut ends all connections. What is on its way is lost.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.Close()
	}
}
