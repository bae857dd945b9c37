package transport

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	backoffMin  = 20 * time.Millisecond
	backoffMax  = time.Second
	// steadyAfter is how long a connection has to last for the next dial to be immediate. One
	// that ends sooner was accepted by something that does not keep it.
	steadyAfter = time.Second
	// spareItems is the largest list of items that is kept for reuse.
	spareItems = 4096
)

// lane is one stream to a peer: a bounded queue and the goroutine that keeps a connection and
// writes what waits.
type lane struct {
	transport *Transport
	peer      *peer
	number    uint8
	queue     *queue
	kick      chan struct{} // cuts a backoff short
	dialled   string        // the address of the newest attempt; the goroutine's

	mu struct {
		sync.Mutex
		abandon  context.CancelFunc // ends the current dial or connection
		saidDrop bool               // a drop was logged since the lane was last connected
	}
}

func newLane(t *Transport, p *peer, number uint8) *lane {
	return &lane{
		transport: t, peer: p, number: number,
		queue: newQueue(t.options.QueueBytes),
		kick:  make(chan struct{}, 1),
	}
}

// reconnect gives up the current connection and dials at once.
func (l *lane) reconnect() {
	l.mu.Lock()
	abandon := l.mu.abandon
	l.mu.Unlock()
	if abandon != nil {
		abandon()
	}
	l.hurry()
}

// hurry ends a backoff: there is reason to believe that the peer is there.
func (l *lane) hurry() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// run keeps the lane connected until the peer's context ends.
func (l *lane) run() {
	ctx := l.peer.ctx
	backoff := backoffMin
	for ctx.Err() == nil {
		lasted, err := l.attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		l.transport.tellRefusal(l.peer.id, err)
		if l.peer.broken(l.number, err) {
			l.transport.logPeer(slog.LevelWarn, "peer not connected", l.peer,
				"reason", reasonOf(err))
		}
		if lasted == 0 {
			l.peer.missed(l.dialled)
		}
		if lasted >= steadyAfter {
			backoff = backoffMin
		}
		if l.wait(ctx, backoff) {
			backoff = backoffMin
			continue
		}
		backoff = min(2*backoff, backoffMax)
	}
}

// wait pauses for half to all of d and reports whether it was cut short.
func (l *lane) wait(ctx context.Context, d time.Duration) (hurried bool) {
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-l.kick:
		return true
	}
	return false
}

// attempt dials, greets and serves one connection until it ends, and tells how long it lasted, which
// is 0 when there was none.
func (l *lane) attempt(ctx context.Context) (time.Duration, error) {
	ctx, abandon := context.WithCancel(ctx)
	defer abandon()
	l.mu.Lock()
	l.mu.abandon = abandon
	l.mu.Unlock()
	l.dialled = l.peer.address() // behind abandon: a change from now on ends the attempt
	conn, w, err := l.transport.connect(ctx, l.peer, l.dialled, l.number)
	if err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	begun := time.Now()
	err = l.serve(ctx, conn, w.incarnation)
	return time.Since(begun), err
}

// connect opens a connection to p for a lane. The name is resolved anew by each dial.
func (t *Transport) connect(ctx context.Context, p *peer, address string, lane uint8) (net.Conn,
	welcome, error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := t.options.Dial(dialCtx, address)
	if err != nil {
		return nil, welcome{}, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	w, err := t.greet(conn, p.id, lane)
	if err == nil {
		err = t.admit(w.node, w.incarnation, address)
	}
	if err != nil {
		conn.Close()
		return nil, welcome{}, err
	}
	return conn, w, nil
}

// serve writes to an established connection until it breaks.
func (l *lane) serve(ctx context.Context, conn net.Conn, incarnation uint64) error {
	t := l.transport
	ended := make(chan error, 1)
	go func() {
		err := readSigns(conn)
		conn.Close() // ends a write that nobody reads
		ended <- err
	}()

	l.mu.Lock()
	l.mu.saidDrop = false
	l.mu.Unlock()
	if l.queue.open() {
		t.notifier.lost(l.peer.id)
	}
	if l.peer.established(l.number, incarnation) {
		t.logPeer(slog.LevelInfo, "peer connected", l.peer, "incarnation", incarnation)
	}

	w := laneWriter{lane: l, conn: conn}
	err := w.run(ctx, ended)
	conn.Close()
	if readErr := <-ended; isClosed(err) {
		err = readErr // the reader closed the connection, and knows why
	}
	l.peer.drops.Add(uint64(l.queue.shut() + len(w.items)))
	l.peer.down(l.number)
	return err
}

// logDrop logs that messages cannot be sent, once until the lane is connected anew.
func (l *lane) logDrop(group uint64, err error) {
	l.mu.Lock()
	said := l.mu.saidDrop
	l.mu.saidDrop = true
	l.mu.Unlock()
	if !said {
		l.transport.logPeer(slog.LevelWarn, "messages to peer dropped", l.peer,
			"group", group, "reason", err.Error())
	}
}

// readSigns reads the acceptor's signs of life until there is none for hungTimeout.
func readSigns(conn net.Conn) error {
	r := newFrameReader(conn, 0, 16*frameHeaderBytes)
	for {
		h, _, err := r.next()
		if err != nil {
			return err
		}
		if h.frameType != framePing {
			return fmt.Errorf("%w: type %d towards the dialler", errDamaged, h.frameType)
		}
	}
}
