package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/connectraft/connect/client"
	"github.com/connectraft/connect/internal/wire"
)

// sessions answers the requests of sessions, and notes their writes. Others go to answer.
type sessions struct {
	mu     sync.Mutex
	opened int
	writes []wire.Request // in order of arrival
	closed []uint64
	answer func(number int, request wire.Frame) wire.Frame // of writes, numbered from 1
}

func (s *sessions) serve(_ int, request wire.Frame) wire.Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch request.Kind {
	case wire.OpenSession:
		s.opened++
		return wire.Frame{Payload: wire.AppendSession(nil, 41)}
	case wire.CloseSession:
		s.closed = append(s.closed, request.Session)
		return wire.Frame{}
	}
	s.writes = append(s.writes, request.Request)
	return s.answer(len(s.writes), request)
}

// got returns the writes so far.
func (s *sessions) got() []wire.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.writes)
}

// openSession opens a session with fake nodes that share one table of sessions.
func openSession(t *testing.T, nodes int, answer func(int, wire.Frame) wire.Frame) (
	*client.Session, *sessions,
) {
	t.Helper()
	table := &sessions{answer: answer}
	var served []*node
	for range nodes {
		served = append(served, serve(t, table.serve))
	}
	s, err := open(t, served...).Group(9).OpenSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s, table
}

// TestSessionRepeatsWhatIsNotKnown breaks the connection of the first attempt, answers the second
// with an unknown outcome and the third that there is no leader: each attempt says the same.
func TestSessionRepeatsWhatIsNotKnown(t *testing.T) {
	s, table := openSession(t, 2, func(number int, request wire.Frame) wire.Frame {
		switch number {
		case 1:
			return wire.Frame{Status: hangUp}
		case 2:
			return wire.Frame{Status: wire.Unknown, Payload: []byte("why")}
		case 3:
			return wire.Frame{Status: wire.NoLeader}
		}
		return echo(number, request)
	})
	r, err := s.Do(t.Context(), []byte("x"))
	if err != nil || string(r.Answer) != "x" || r.Index != 7 {
		t.Fatalf("got %+v, %v", r, err)
	}
	same := wire.Request{Group: 9, Session: 41, Sequence: 1}
	if got := table.got(); !slices.Equal(got, []wire.Request{same, same, same, same}) {
		t.Errorf("the attempts were %+v, want four of %+v", got, same)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(table.closed, []uint64{41}) {
		t.Errorf("closed %v, want session 41 once", table.closed)
	}
	if _, err := s.Do(t.Context(), nil); !errors.Is(err, client.ErrSessionExpired) {
		t.Errorf("a write after Close: %v", err)
	}
}

// TestSessionAcknowledgesWhatHasEnded holds the first of three writes back: nothing is acknowledged
// until it has its answer.
func TestSessionAcknowledgesWhatHasEnded(t *testing.T) {
	held := make(chan struct{})
	s, table := openSession(t, 1, func(number int, request wire.Frame) wire.Frame {
		if string(request.Payload) == "held" {
			select {
			case <-held:
			default:
				return wire.Frame{Status: wire.SessionFull} // comes again
			}
		}
		return echo(number, request)
	})
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := s.Do(t.Context(), []byte("held")); err != nil {
			t.Error(err)
		}
	})
	for len(table.got()) == 0 {
		time.Sleep(time.Millisecond) // the pace of the poll, not the wait itself
	}
	do := func() wire.Request {
		t.Helper()
		if _, err := s.Do(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		var last wire.Request
		for _, r := range table.got() {
			if r.Sequence > last.Sequence {
				last = r
			}
		}
		return last
	}
	for want := uint64(2); want <= 3; want++ {
		if r := do(); r.Sequence != want || r.Acked != 0 {
			t.Errorf("%+v, want sequence %d and nothing acknowledged", r, want)
		}
	}
	close(held)
	first.Wait()
	if r := do(); r.Sequence != 4 || r.Acked != 3 {
		t.Errorf("%+v, want sequence 4, with 3 acknowledged", r)
	}
}

// TestExpiredSessionTellsWhatItKnows: a write that was never sent before is surely not applied; one
// whose first attempt had no answer may have been.
func TestExpiredSessionTellsWhatItKnows(t *testing.T) {
	for _, lost := range []bool{false, true} {
		s, _ := openSession(t, 1, func(number int, _ wire.Frame) wire.Frame {
			if lost && number == 1 {
				return wire.Frame{Status: hangUp}
			}
			return wire.Frame{Status: wire.SessionExpired}
		})
		_, err := s.Do(t.Context(), nil)
		if !errors.Is(err, client.ErrSessionExpired) || errors.Is(err, client.ErrUnknown) != lost {
			t.Errorf("an attempt was lost: %v; the error is %v", lost, err)
		}
	}
}

// TestSessionWindowIsBounded has no write answered: of 1,100 at once 1,024 are sent.
func TestSessionWindowIsBounded(t *testing.T) {
	s, table := openSession(t, 1, func(int, wire.Frame) wire.Frame {
		return wire.Frame{Status: wire.Overloaded}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var writes sync.WaitGroup
	for range 1100 {
		writes.Go(func() {
			if _, err := s.Do(ctx, nil); err == nil {
				t.Error("a write was answered")
			}
		})
	}
	sequences := func() map[uint64]bool {
		seen := map[uint64]bool{}
		for _, r := range table.got() {
			seen[r.Sequence] = true
		}
		return seen
	}
	deadline := time.Now().Add(20 * time.Second)
	for len(sequences()) < 1024 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond) // the pace of the poll
	}
	for sequence := range sequences() {
		if sequence > 1024 {
			t.Errorf("sequence %d was sent", sequence)
		}
	}
	if n := len(sequences()); n != 1024 {
		t.Errorf("%d sequences were sent, want 1,024", n)
	}
	cancel()
	writes.Wait()
}

// TestReadLevelsReachTheNode checks what a node is asked, and that what any node can answer does
// not follow the leader.
func TestReadLevelsReachTheNode(t *testing.T) {
	var mu sync.Mutex
	var got []string
	leader := serve(t, echo)
	near := serve(t, func(number int, request wire.Frame) wire.Frame {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprint(request.Group, request.Level, request.Bound))
		return wire.Frame{Leader: leader.address, Payload: request.Payload}
	})
	g := open(t, near).Group(3)
	for _, level := range []client.ReadLevel{client.AtLeast(77), client.Stale(0),
		client.Stale(3 * time.Millisecond), client.Stale(1), client.Linearizable, client.Lease} {
		if _, err := g.Read(t.Context(), nil, level); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	want := []string{"3 2 77", "3 3 0", "3 3 3000", "3 3 1", "3 0 0"}
	if !slices.Equal(got, want) {
		t.Errorf("the near node was asked %q, want %q", got, want)
	}
	if n := len(leader.requests()); n != 1 {
		t.Errorf("the leader was asked %d times, want once", n)
	}
}
