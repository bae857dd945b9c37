package node

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
)

// Session makes commands apply exactly once: the group keeps the answers to its commands until the
// session has them, so that a command whose fate is not known is simply sent again. What would be
// Unknown outside a session therefore becomes definite, for as long as the caller waits and the
// session lives. Its methods may be called from any goroutine.
//
// A session expires when it is not used for an hour, or when the group opens so many others (4,096)
// that it has become the least recently used one. Using it keeps it alive; nothing else does.
//
// Commands of a session may be in flight together. They are then applied in any order, because one
// that is sent again does not hold up the others: who needs an order waits for the answer first.
type Session struct {
	group *Group
	id    uint64
	room  chan struct{} // holds a token when the window may have room

	mu     sync.Mutex // guards the rest
	next   uint64     // the sequence of the next command
	acked  uint64     // the commands up to here have ended
	ended  [apply.SessionWindow]bool
	closed bool
}

// OpenSession opens a session of the group. It asks again while the outcome is not known, until ctx
// ends; a session that was opened without the answer arriving here expires by itself.
func (g *Group) OpenSession(ctx context.Context) (*Session, error) {
	result, err := g.proposeSystem(ctx, apply.OpenSession())
	if err != nil {
		return nil, fmt.Errorf("node: open session: %w", err)
	}
	id, err := apply.ParseSession(result.Answer)
	if err != nil {
		return nil, fmt.Errorf("node: open session: %w", err)
	}
	return &Session{group: g, id: id, next: 1, room: make(chan struct{}, 1)}, nil
}

// CloseSession closes a session by its id, wherever it was opened. Closing one that does not exist
// (any more) is no error.
func (g *Group) CloseSession(ctx context.Context, id uint64) error {
	if _, err := g.proposeSystem(ctx, apply.CloseSession(id)); err != nil {
		return fmt.Errorf("node: close session %d: %w", id, err)
	}
	return nil
}

// proposeSystem replicates a command of the system that does no harm when it is applied twice,
// until its outcome is known or ctx ends.
func (g *Group) proposeSystem(ctx context.Context, command []byte) (Result, error) {
	for {
		result, err := g.run(ctx, newSystemCall(g, command))
		if OutcomeOf(err) != Unknown || ctx.Err() != nil {
			return result, err
		}
	}
}

// ID returns the id of the session; it is unique in the group for ever.
func (s *Session) ID() uint64 { return s.id }

// Propose replicates a command and returns the state machine's answer. It sends the command again
// for as long as its fate is not known, and the command is applied once whatever happens. The
// command's memory passes to the node.
//
// It waits while 1,024 commands of the session are in flight (counted from the oldest one that has
// not ended), and while the group has no room. When ctx ends, the error tells whether the command
// may have been applied. [ErrSessionExpired] ends the session.
func (s *Session) Propose(ctx context.Context, command []byte) (Result, error) {
	c, err := s.call(ctx, command)
	if err != nil {
		return Result{}, err
	}
	return s.group.run(ctx, c)
}

// Go is Propose without the wait for the answer: it waits for the session's window alone, at most
// until ctx ends, and the group's admission refuses at once. [Call.Wait] says what became of the
// command, which is sent again until it has a definite end or the waiter leaves.
func (s *Session) Go(ctx context.Context, command []byte) *Call {
	c, err := s.call(ctx, command)
	if err != nil {
		c = newCall(s.group, command)
		c.refuse(err)
		return c
	}
	return s.group.start(c)
}

// Close closes the session. Commands of it that are still in flight end with an error.
func (s *Session) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
	return s.group.CloseSession(ctx, s.id)
}

// GoSession queues a command of a session whose sequences are counted elsewhere, by a client of a
// server. It is sent again as Session.Go does, and refused at once for want of room. The caller
// gives every command a sequence of its own, from 1 on, at most 1,024 beyond the acknowledged one,
// and repeats a command under the same sequence; acked says that all answers up to it have arrived.
func (g *Group) GoSession(session, sequence, acked uint64, command []byte) *Call {
	c := newSessionCall(g, command, place{session: session, sequence: sequence, acked: acked})
	if session == 0 {
		c.refuse(ErrSessionExpired)
		return c
	}
	return g.start(c)
}

// call makes the call of the next command, as soon as the window has room for it.
func (s *Session) call(ctx context.Context, command []byte) (*Call, error) {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			s.signal() // so does every other one that waits
			return nil, ErrSessionExpired
		}
		if s.next-s.acked <= apply.SessionWindow {
			c := newSessionCall(s.group, command, place{session: s.id, sequence: s.next,
				acked: s.acked, owner: s})
			s.next++
			s.mu.Unlock()
			s.signal() // another one that waits may fit too
			return c, nil
		}
		s.mu.Unlock()
		select {
		case <-s.room:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: the session has %d commands in flight: %w", ErrOverloaded,
				apply.SessionWindow, context.Cause(ctx))
		}
	}
}

// signal wakes one of those who wait for the window.
func (s *Session) signal() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// finished notes the end of a command: nobody will ask for its answer again.
func (s *Session) finished(sequence uint64) {
	s.mu.Lock()
	s.ended[sequence%apply.SessionWindow] = true
	before := s.acked
	for place := &s.ended[(s.acked+1)%apply.SessionWindow]; *place; {
		*place = false
		s.acked++
		place = &s.ended[(s.acked+1)%apply.SessionWindow]
	}
	moved := s.acked != before
	s.mu.Unlock()
	if moved {
		s.signal()
	}
}

func (s *Session) acknowledged() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked
}

// place is the place of a call in a session. The party that has taken the call may change it.
type place struct {
	session, sequence, acked uint64
	owner                    *Session // nil when the sequences are counted elsewhere
	uncertain                bool     // a submission of the call may have been applied
}

func newSessionCall(g *Group, command []byte, p place) *Call {
	c := &struct {
		Call
		place
	}{place: p}
	c.group, c.payload, c.done = g, command, make(chan struct{}, 1)
	c.Call.retry, c.Call.place = true, &c.place
	return &c.Call
}

// verdict is the error of a call that ends with err after all that was tried.
func (p *place) verdict(err error) error {
	if p == nil || !p.uncertain || errors.Is(err, ErrUnknown) {
		return err
	}
	return fmt.Errorf("%w: an earlier submission may have been applied: %w", ErrUnknown, err)
}

// repeat sends a command of a session again that has ended with err, and reports whether it does.
// The table of sessions has it applied once, so what is not known is asked again.
func (c *Call) repeat(err error) bool {
	if c.relay != nil || c.group.stopped() {
		return false // the asker repeats it; nobody here can
	}
	p := c.place
	soon := false
	switch advice := AdviceOf(err); {
	case errors.Is(err, ErrUnknown):
		p.uncertain = true
	case errors.Is(err, ErrSessionFull) && p.owner != nil:
		// The answers that fill it are here already; the next submission says so.
		acked := p.owner.acknowledged()
		soon, p.acked = acked > p.acked, acked
	case errors.Is(err, ErrSessionFull):
		return false // who counts the sequences has to acknowledge answers first
	case p.uncertain && advice.RetrySafe && advice.Ask != AskNobody:
		// What has refused this submission says nothing about the one before.
	default:
		return false
	}
	if !c.state.CompareAndSwap(callTaken, callQueued) {
		return false // the waiter has left
	}
	if soon {
		c.group.queue(c)
	} else {
		c.group.retry([]replica.Proposal{c})
	}
	return true
}

// stopped reports whether the group serves nothing more on this node.
func (g *Group) stopped() bool {
	return g.failed.Load() != nil || g.node.closing.Load() || g.removed.Load()
}
