package server

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/connectraft/connect/internal/wire"
)

// clientListener accepts clients and has one goroutine serve each.
type clientListener struct {
	server   *Server
	listener net.Listener
	limit    int
	served   sync.WaitGroup // the accepting goroutine and one for each connection

	stop chan struct{} // closed by drain

	// memory is what all connections together may take for large commands that are still
	// arriving. What has arrived is admitted, or not, by the node.
	memory *semaphore.Weighted

	mu struct {
		sync.Mutex
		connections map[net.Conn]struct{}
		accepted    int64 // over the life of the server; numbers the connections
		stopping    bool  // no connection is added any more
	}
}

func newClientListener(s *Server, l net.Listener) *clientListener {
	limits, files := s.config.Limits, openFiles()
	limit := connectionsFor(limits.Connections, files)
	if limit < limits.Connections {
		s.logger.Warn("fewer client connections than limits.connections: raise the limit of open files",
			"connections", limit, "configured", limits.Connections, "open_files", files)
	}
	c := &clientListener{server: s, listener: l, limit: limit,
		stop: make(chan struct{}),
		// A buffer may be twice its command while it grows, so one always fits.
		memory: semaphore.NewWeighted(limits.InflightBytes + 4*limits.Command)}
	c.mu.connections = make(map[net.Conn]struct{})
	return c
}

func (l *clientListener) start() { l.served.Go(l.accept) }

const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// accept runs until the listener is closed. Other errors pass by themselves, such as too many open
// files: they make it pause, longer each time.
func (l *clientListener) accept() {
	pause := acceptPauseMin
	for {
		conn, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.server.logger.Warn("client listener cannot accept", "error", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-l.stop:
			}
			pause = min(2*pause, acceptPauseMax)
			continue
		}
		pause = acceptPauseMin
		if id, ok := l.add(conn); ok {
			l.served.Go(func() { l.serve(conn, id) })
			continue
		}
		l.turnAway(conn)
	}
}

// add takes a connection in, unless there are too many or the server stops.
func (l *clientListener) add(conn net.Conn) (id int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.stopping || len(l.mu.connections) >= l.limit {
		return 0, false
	}
	l.mu.connections[conn] = struct{}{}
	l.mu.accepted++
	l.server.metrics.connections.Inc()
	return l.mu.accepted, true
}

func (l *clientListener) remove(conn net.Conn) {
	l.mu.Lock()
	delete(l.mu.connections, conn)
	l.mu.Unlock()
	l.server.metrics.connections.Dec()
}

// turnAway says why in the words of Redis. The socket's buffer is empty, so the write does not
// wait; whether it arrives does not matter.
func (l *clientListener) turnAway(conn net.Conn) {
	l.server.metrics.turnedAway.Inc()
	_, _ = conn.Write([]byte("-ERR max number of clients reached\r\n"))
	_ = conn.Close()
}

// serve finds out which protocol the client speaks and speaks it.
func (l *clientListener) serve(conn net.Conn, id int64) {
	defer l.remove(conn)
	defer func() { _ = conn.Close() }()
	in := newInBuffer(l.memory)
	defer in.release()
	if err := in.fill(conn); err != nil {
		return
	}
	if in.unused()[0] == wire.Magic {
		newFrameConn(l.server, conn, in.unused()).serve()
		return
	}
	newRespConn(l.server, conn, id, in).serve()
}

// stopping reports whether drain was called.
func (l *clientListener) stopping() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// drain stops accepting and reading, and waits until the commands in flight were answered or ctx
// ends. It is called once.
func (l *clientListener) drain(ctx context.Context) {
	_ = l.listener.Close()
	l.mu.Lock()
	l.mu.stopping = true
	l.mu.Unlock()
	close(l.stop)
	for _, conn := range l.connections() {
		_ = conn.SetReadDeadline(time.Now())
	}
	done := make(chan struct{})
	go func() { // ends when close has ended the last connection
		l.served.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// close ends the connections that are left and waits for their goroutines; drain was called.
func (l *clientListener) close() {
	for _, conn := range l.connections() {
		_ = conn.Close()
	}
	l.served.Wait()
}

func (l *clientListener) connections() []net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.mu.connections))
}
