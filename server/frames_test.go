package server_test

import (
	"bufio"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/wire"
)

// frameClient is a connection that speaks frames.
type frameClient struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	next uint64
}

func frames(t *testing.T, address string) *frameClient {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(waitMax)); err != nil {
		t.Fatal(err)
	}
	c := &frameClient{t: t, conn: conn, in: bufio.NewReader(conn)}
	if _, err := conn.Write(wire.AppendPreamble(nil)); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *frameClient) send(f wire.Frame) {
	c.t.Helper()
	if _, err := c.conn.Write(wire.AppendFrame(nil, f)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *frameClient) receive() wire.Frame {
	c.t.Helper()
	f, err := wire.ReadFrame(c.in, 1<<20)
	if err != nil {
		c.t.Fatal(err)
	}
	return f
}

// do sends a request and waits for its reply, which must be the next one.
func (c *frameClient) do(f wire.Frame) wire.Frame {
	c.t.Helper()
	c.next++
	f.ID = c.next
	c.send(f)
	reply := c.receive()
	if reply.ID != f.ID {
		c.t.Fatalf("got the reply to request %d, want %d", reply.ID, f.ID)
	}
	return reply
}

// breaking returns the address of a proxy whose connections break when so many bytes came back.
func breaking(t *testing.T, to string, bytes int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			served.Go(func() { _, _ = io.Copy(far, near); _ = far.Close() })
			served.Go(func() {
				_, _ = io.CopyN(near, far, bytes)
				_, _ = near.Close(), far.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		served.Wait()
	})
	return l.Addr().String()
}
