package client

import (
	"context"
	"fmt"
	"sync"

	"github.com/connectraft/connect/internal/wire"
)

// Session makes writes exactly-once: the cluster remembers the answers to what a session has sent,
// so a write whose connection broke, or whose leader died, is sent again until it has its answer.
// Its methods may be called from any goroutine.
//
// Writes of one session may be in flight together; they are applied in any order then. A session
// that is not used for an hour expires, and so may the one that was not used for the longest time
// when a group has thousands of them.
type Session struct {
	group *Group
	id    uint64

	mu struct {
		sync.Mutex
		next  uint64              // the sequence of the next write
		acked uint64              // the answers of all up to it are here, or nobody waits for them
		ended map[uint64]struct{} // beyond acked
		// moved is closed when acked grows and somebody waits for that; nil = nobody does.
		moved  chan struct{}
		closed bool
	}
}

// sessionWindow is how many sequences may lie between the oldest write in flight and the newest: as
// many as the cluster keeps answers for, at most.
const sessionWindow = 1024

// OpenSession opens a session of the group.
func (g *Group) OpenSession(ctx context.Context) (*Session, error) {
	r, err := g.do(ctx, attempts{request: wire.Frame{Kind: wire.OpenSession}})
	if err != nil {
		return nil, err
	}
	id, ok := wire.ParseSession(r.Answer)
	if !ok {
		return nil, fmt.Errorf("client: a node has answered with a session % x", r.Answer)
	}
	s := &Session{group: g, id: id}
	s.mu.next, s.mu.ended = 1, map[uint64]struct{}{}
	return s, nil
}

// Do has a command applied exactly once, whatever becomes of nodes and connections meanwhile, and
// returns its answer. When ctx ends first, an error that matches [ErrUnknown] leaves open whether
// it was applied; any other means that it was not and never will be. After [ErrSessionExpired] the
// session is of no use any more.
func (s *Session) Do(ctx context.Context, command []byte) (Result, error) {
	sequence, err := s.begin(ctx)
	if err != nil {
		return Result{}, err
	}
	defer s.end(sequence)
	return s.group.do(ctx, attempts{session: s, request: wire.Frame{Kind: wire.Write,
		Payload: command, Request: wire.Request{Session: s.id, Sequence: sequence}}})
}

// Close has the cluster forget the session. Writes in flight end with ErrSessionExpired, or with
// ErrUnknown when they may have been applied before.
func (s *Session) Close(ctx context.Context) error {
	s.mu.Lock()
	isFirst := !s.mu.closed
	s.mu.closed = true
	s.wakeLocked()
	s.mu.Unlock()
	if !isFirst {
		return nil
	}
	_, err := s.group.do(ctx, attempts{request: wire.Frame{Kind: wire.CloseSession,
		Request: wire.Request{Session: s.id}}})
	return err
}

// begin takes a sequence as soon as the window has room for it.
func (s *Session) begin(ctx context.Context) (sequence uint64, err error) {
	for {
		s.mu.Lock()
		if s.mu.closed {
			s.mu.Unlock()
			return 0, &requestError{ErrSessionExpired, errSessionClosed}
		}
		if s.mu.next-s.mu.acked <= sessionWindow {
			sequence = s.mu.next
			s.mu.next++
			s.mu.Unlock()
			return sequence, nil
		}
		if s.mu.moved == nil {
			s.mu.moved = make(chan struct{})
		}
		moved := s.mu.moved
		s.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, &requestError{ErrUnavailable, context.Cause(ctx)}
		}
	}
}

func (s *Session) acknowledged() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.acked
}

// end notes that nobody waits for the answer of a sequence any more.
func (s *Session) end(sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.ended[sequence] = struct{}{}
	before := s.mu.acked
	for {
		if _, ok := s.mu.ended[s.mu.acked+1]; !ok {
			break
		}
		s.mu.acked++
		delete(s.mu.ended, s.mu.acked)
	}
	if s.mu.acked != before {
		s.wakeLocked()
	}
}

func (s *Session) wakeLocked() {
	if s.mu.moved != nil {
		close(s.mu.moved)
		s.mu.moved = nil
	}
}
