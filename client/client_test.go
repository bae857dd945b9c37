package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/connectraft/connect/client"
	"github.com/connectraft/connect/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hangUp is the status of an answer that is none: the connection breaks.
const hangUp wire.Status = 255

// node is a server that answers each request with what answer returns, and counts them.
type node struct {
	address string
	mu      sync.Mutex
	got     []string // payloads, in order of arrival
}

func (n *node) requests() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.got)
}

// serve starts a node; it ends with the test. answer gets the number of the request, from 1.
func serve(t *testing.T, answer func(number int, request wire.Frame) wire.Frame) *node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{address: l.Addr().String()}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() { n.converse(conn, answer) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		served.Wait()
	})
	return n
}

func (n *node) converse(conn net.Conn, answer func(int, wire.Frame) wire.Frame) {
	defer conn.Close()
	if wire.ReadPreamble(conn) != nil {
		return
	}
	for {
		request, err := wire.ReadFrame(conn, 1<<20)
		if err != nil {
			return
		}
		n.mu.Lock()
		n.got = append(n.got, string(request.Payload))
		number := len(n.got)
		n.mu.Unlock()
		reply := answer(number, request)
		if reply.Status == hangUp {
			return
		}
		reply.ID, reply.Kind = request.ID, wire.Reply
		if _, err := conn.Write(wire.AppendFrame(nil, reply)); err != nil {
			return
		}
	}
}

// open opens a client that is closed before the nodes end.
func open(t *testing.T, nodes ...*node) *client.Client {
	t.Helper()
	o := client.Options{Timeout: 30 * time.Second}
	for _, n := range nodes {
		o.Addresses = append(o.Addresses, n.address)
	}
	c, err := client.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func echo(_ int, request wire.Frame) wire.Frame {
	return wire.Frame{Index: 7, Payload: request.Payload}
}

func TestTheHintOfARefusalIsFollowed(t *testing.T) {
	leader := serve(t, echo)
	follower := serve(t, func(int, wire.Frame) wire.Frame {
		return wire.Frame{Status: wire.NotLeader, Leader: leader.address}
	})
	c := open(t, follower) // the leader is not among the addresses
	for i := range 3 {
		r, err := c.Write(t.Context(), fmt.Append(nil, i))
		if err != nil || r.Index != 7 || string(r.Answer) != fmt.Sprint(i) {
			t.Fatalf("write %d: %+v, %v", i, r, err)
		}
	}
	if got := follower.requests(); !slices.Equal(got, []string{"0"}) {
		t.Errorf("the follower got %q, want the first request only", got)
	}
}

func TestTheHintOfAnAnswerIsFollowed(t *testing.T) {
	leader := serve(t, echo)
	follower := serve(t, func(number int, request wire.Frame) wire.Frame {
		return wire.Frame{Leader: leader.address, Payload: request.Payload}
	})
	c := open(t, follower)
	for _, payload := range []string{"a", "b", "c"} {
		if _, err := c.Read(t.Context(), []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	if got := leader.requests(); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("the leader got %q, want b and c", got)
	}
}

func TestWhatIsSentAgain(t *testing.T) {
	tests := []struct {
		status      wire.Status
		kind        wire.Kind
		wantErr     error // nil: it is sent again, and answered then
		wantUnknown bool
	}{
		{wire.NotLeader, wire.Write, nil, false},
		{wire.NoLeader, wire.Write, nil, false},
		{wire.Overloaded, wire.Write, nil, false},
		{wire.DiskFull, wire.Write, nil, false},
		{wire.Closed, wire.Write, nil, false},
		{wire.Failed, wire.Write, nil, false},
		{wire.TooLarge, wire.Write, client.ErrTooLarge, false},
		{wire.Refused, wire.Write, client.ErrRefused, false},
		{wire.Unknown, wire.Write, client.ErrUnknown, true},
		{wire.Status(200), wire.Write, client.ErrUnknown, true},
		{wire.NoGroup, wire.Write, nil, false},
		{wire.Behind, wire.Read, nil, false},
		{wire.Unknown, wire.Read, nil, false},
		{wire.Refused, wire.Read, client.ErrRefused, false},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.kind, test.status), func(t *testing.T) {
			n := serve(t, func(number int, request wire.Frame) wire.Frame {
				if number == 1 {
					return wire.Frame{Status: test.status, Payload: []byte("why")}
				}
				return echo(number, request)
			})
			c := open(t, n)
			do := c.Write
			if test.kind == wire.Read {
				do = c.Read
			}
			_, err := do(t.Context(), []byte("x"))
			if !errors.Is(err, test.wantErr) || errors.Is(err, client.ErrUnknown) != test.wantUnknown {
				t.Errorf("got %v, want %v", err, test.wantErr)
			}
			want := 2
			if test.wantErr != nil {
				want = 1
			}
			if got := len(n.requests()); got != want {
				t.Errorf("the request was sent %d times, want %d", got, want)
			}
		})
	}
}

func TestRefusalsUntilTheContextEndsAreDefinite(t *testing.T) {
	n := serve(t, func(int, wire.Frame) wire.Frame {
		return wire.Frame{Status: wire.NoLeader, Payload: []byte("nobody leads")}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := open(t, n).Write(ctx, []byte("x"))
	// A timeout that ends the wait for a reply leaves the write unknown; one between two attempts
	// does not. Both may happen here, but the one must never be called the other.
	unavailable, unknown := errors.Is(err, client.ErrUnavailable), errors.Is(err, client.ErrUnknown)
	if unavailable == unknown {
		t.Fatalf("got %v", err)
	}
}

func TestRepliesMayComeInAnyOrder(t *testing.T) {
	const requests = 8
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var served sync.WaitGroup
	served.Go(func() { // answers the requests of one connection in reverse
		conn, err := l.Accept()
		if err != nil || wire.ReadPreamble(conn) != nil {
			return
		}
		defer conn.Close()
		var out []byte
		for range requests {
			f, err := wire.ReadFrame(conn, 1<<20)
			if err != nil {
				return
			}
			reply := wire.Frame{ID: f.ID, Kind: wire.Reply, Payload: f.Payload}
			out = append(wire.AppendFrame(nil, reply), out...)
		}
		_, _ = conn.Write(out)
	})
	c := open(t, &node{address: l.Addr().String()})
	var all sync.WaitGroup
	for i := range requests {
		all.Go(func() {
			r, err := c.Read(t.Context(), fmt.Append(nil, i))
			if err != nil || string(r.Answer) != fmt.Sprint(i) {
				t.Errorf("request %d: %q, %v", i, r.Answer, err)
			}
		})
	}
	all.Wait()
	served.Wait()
}
