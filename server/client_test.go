package server_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/connectraft/connect/client"
	"github.com/connectraft/connect/internal/porttest"
	"github.com/connectraft/connect/internal/wire"
)

func openClient(t *testing.T, addresses ...string) *client.Client {
	t.Helper()
	c, err := client.Open(client.Options{Addresses: addresses, Timeout: waitMax})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestBinaryProtocol(t *testing.T) {
	_, cfg := open(t, counterService, "")
	ctx := t.Context()
	c := openClient(t, cfg.Self().Client)
	written, err := c.Write(ctx, client.Command("incr"))
	if err != nil || string(written.Answer) != ":1\r\n" || written.Index == 0 {
		t.Fatalf("write: %+v, %v", written, err)
	}
	read, err := c.Read(ctx, client.Command("get"))
	if err != nil || string(read.Answer) != ":1\r\n" || read.Index < written.Index {
		t.Fatalf("read: %+v, %v", read, err)
	}
	if _, err = c.Write(ctx, client.Command("size", strings.Repeat("x", 500_000))); err != nil {
		t.Fatal(err)
	}
	for _, payload := range [][]byte{nil, []byte("garbage"), client.Command("nope"),
		client.Command("get"), client.Command("incr", "more"), client.Command("INCR")} {
		if _, err = c.Write(ctx, payload); !errors.Is(err, client.ErrRefused) {
			t.Errorf("%q: %v, want ErrRefused", payload, err)
		}
	}
	if _, err = c.Read(ctx, client.Command("incr")); !errors.Is(err, client.ErrRefused) {
		t.Errorf("incr as a read: %v, want ErrRefused", err)
	}
	// None of that stopped the service.
	if read, err = c.Read(ctx, client.Command("get")); string(read.Answer) != ":1\r\n" {
		t.Fatalf("read: %+v, %v", read, err)
	}
}

func TestClientGoesOnToANodeThatRuns(t *testing.T) {
	_, cfg := open(t, counterService, "")
	c := openClient(t, porttest.Address(t), cfg.Self().Client)
	if r, err := c.Write(t.Context(), client.Command("incr")); err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
}

// increments has goroutines increment at once, and expects no answer twice.
func increments(t *testing.T, goroutines, each int,
	write func(ctx context.Context, command []byte) (client.Result, error)) {
	t.Helper()
	var seen sync.Map
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range each {
				r, err := write(t.Context(), client.Command("incr"))
				if _, twice := seen.LoadOrStore(string(r.Answer), true); err != nil || twice {
					t.Errorf("%q, twice %v, %v", r.Answer, twice, err)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestManyGoroutinesShareOneClient(t *testing.T) {
	_, cfg := open(t, counterService, "")
	c := openClient(t, cfg.Self().Client)
	increments(t, 20, 50, c.Write)
	dial(t, cfg).expect("get\r\n", ":1000")
}

// silentServer takes connections and requests and never answers.
func silentServer(t *testing.T) (address string, gotRequest <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan net.Conn, 10)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if wire.ReadPreamble(conn) == nil {
				if _, err := wire.ReadFrame(conn, 1<<20); err == nil {
					got <- conn
				}
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		served.Wait()
		for len(got) > 0 {
			_ = (<-got).Close()
		}
	})
	return l.Addr().String(), got
}

func TestLostConnectionLeavesAWriteUnknown(t *testing.T) {
	address, got := silentServer(t)
	c := openClient(t, address)
	done := make(chan error, 1)
	go func() {
		_, err := c.Write(t.Context(), client.Command("incr"))
		done <- err
	}()
	_ = (<-got).Close()
	if err := <-done; !errors.Is(err, client.ErrUnknown) {
		t.Fatalf("got %v, want ErrUnknown", err)
	}
}

func TestTimeoutLeavesAWriteUnknown(t *testing.T) {
	address, got := silentServer(t)
	c := openClient(t, address)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.Write(ctx, client.Command("incr"))
		done <- err
	}()
	conn := <-got
	cancel()
	if err := <-done; !errors.Is(err, client.ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want ErrUnknown and Canceled", err)
	}
	_ = conn.Close()
}

func TestNoServerLeavesAWriteNotApplied(t *testing.T) {
	c := openClient(t, porttest.Address(t))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Write(ctx, client.Command("incr"))
	if !errors.Is(err, client.ErrUnavailable) || errors.Is(err, client.ErrUnknown) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err = c.Write(t.Context(), nil); !errors.Is(err, client.ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
}

func TestClientOptions(t *testing.T) {
	for _, o := range []client.Options{{}, {Addresses: []string{"nohost"}},
		{Addresses: []string{"a:1"}, Inflight: -1}} {
		if _, err := client.Open(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	c := openClient(t, "127.0.0.1:1")
	if _, err := c.Write(t.Context(), make([]byte, 2<<20)); !errors.Is(err, client.ErrTooLarge) {
		t.Errorf("2 MiB: %v, want ErrTooLarge", err)
	}
}

func TestBrokenFramesEndTheirConnectionOnly(t *testing.T) {
	_, cfg := open(t, counterService, "")
	request := wire.Frame{ID: 1, Kind: wire.Write, Payload: client.Command("incr")}
	sound := wire.AppendFrame(nil, request)
	damaged := append([]byte(nil), sound...)
	damaged[len(damaged)-1] ^= 1
	reply := wire.AppendFrame(nil, wire.Frame{ID: 1, Kind: wire.Reply})
	preamble := string(wire.AppendPreamble(nil))
	for name, send := range map[string]string{
		"other version": preamble[:4] + "\x63",
		"4 GiB frame":   preamble + "\xff\xff\xff\xff\x00\x00\x00\x00",
		"damaged frame": preamble + string(damaged),
		"reply":         preamble + string(reply),
	} {
		c := dial(t, cfg)
		c.send(send)
		if rest, err := io.ReadAll(c.in); len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: want the end of the connection, got %q, %v", name, rest, err)
		}
	}
	dial(t, cfg).expect("get\r\n", ":0")
}
