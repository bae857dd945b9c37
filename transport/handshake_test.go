package transport_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/connectraft/connect/transport"
)

// choosy is a handler that admits only one incarnation.
type choosy struct {
	*recorder
	incarnation uint64
}

func (c choosy) AdmitPeer(peer, incarnation uint64, address string) error {
	if incarnation != c.incarnation {
		return errors.New("its disk was wiped: run connect member replace")
	}
	return nil
}

func TestHandshakeRefusals(t *testing.T) {
	n := startNode(t, 2, func(o *transport.Options) {
		o.Handler = choosy{o.Handler.(*recorder), 9}
	})
	n.SetPeer(5, "127.0.0.1:1")
	n.RemovePeer(5)
	cases := []struct {
		name   string
		change func(*rawHello)
		reason uint16
		text   string
	}{
		{"version too new", func(h *rawHello) { h.versionMin, h.versionMax = 2, 7 }, 1, "2 to 7"},
		{"cluster", func(h *rawHello) { h.cluster = "other" }, 2, `cluster "other"`},
		{"node", func(h *rawHello) { h.target = 3 }, 3, "node 1 dialled node 3, but this is node 2"},
		{"own id", func(h *rawHello) { h.node = 2 }, 4, "both have id 2"},
		{"itself", func(h *rawHello) {
			h.node, h.incarnation, h.address, h.target = 2, 102, n.address, 3
		}, 4, "reached itself at the address it has for node 3"},
		{"incarnation", func(h *rawHello) { h.incarnation = 8 }, 5, "connect member replace"},
		{"removed", func(h *rawHello) { h.node = 5 }, 6, "node 5 was removed"},
		{"no id", func(h *rawHello) { h.node = 0 }, 8, "node id 0"},
		{"lane", func(h *rawHello) { h.lane = 3 }, 8, "lane 3"},
		{"no address", func(h *rawHello) { h.address = "" }, 8, `address ""`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for range 3 {
				h := helloTo(n, 1, 0)
				c.change(&h)
				conn := dialRaw(t, n, h.bytes())
				reason, text := readReply(t, conn)
				if reason != c.reason || !strings.Contains(text, c.text) {
					t.Fatalf("reason %d, %q; want %d, %q", reason, text, c.reason, c.text)
				}
				waitClosed(t, conn)
			}
			quoted := strings.ReplaceAll(c.text, `"`, `\"`)
			lines := n.log.lines("peer refused", quoted)
			if len(lines) != 1 {
				t.Errorf("%d log lines for three refusals: %q", len(lines), lines)
			}
		})
	}
	if connectRaw(t, n, 1, 0) == nil {
		t.Error("a good hello was not welcome")
	}
}

// TestBothSidesTellOfARefusal has two nodes of different clusters dial each other.
func TestBothSidesTellOfARefusal(t *testing.T) {
	var dialled atomic.Int64
	a := startNode(t, 1, func(o *transport.Options) {
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			dialled.Add(1)
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	})
	b := startNode(t, 2, func(o *transport.Options) { o.ClusterID = "other" })
	a.SetPeer(2, b.address)
	dialler := []string{"peer not connected", "node=1", "peer=2", b.address, "wrong cluster"}
	acceptor := []string{"peer refused", "node=2", "peer=1", a.address, b.address, "wrong cluster"}
	waitFor(t, "both lines", func() bool {
		return len(a.log.lines(dialler...)) > 0 && len(b.log.lines(acceptor...)) > 0
	})
	waitFor(t, "retries", func() bool { return dialled.Load() >= 6 })
	if n, m := len(a.log.lines(dialler...)), len(b.log.lines(acceptor...)); n != 1 || m != 1 {
		t.Errorf("%d and %d lines", n, m)
	}
	if s := statsOf(a, 2); s.Connected || !strings.Contains(s.LastError, "wrong cluster") {
		t.Errorf("stats %+v", s)
	}
}

func TestStrangersAreClosed(t *testing.T) {
	n := startNode(t, 2)
	damaged := helloTo(n, 1, 0).bytes()
	damaged[20] ^= 4
	long := helloTo(n, 1, 0).bytes()
	long[14] = 0xff
	cases := []struct{ name, send, log string }{
		{"http", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "it speaks HTTP"},
		{"tls", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03", "it speaks TLS"},
		{"text", "hello\n", `begins with \"hello`},
		{"almost", "CNCTPEEX", "begins with"},
		{"damaged hello", string(damaged), "handshake checksum"},
		{"long hello", string(long), "handshake of"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			waitClosed(t, dialRaw(t, n, []byte(c.send)))
			waitFor(t, "a log line", func() bool {
				return len(n.log.lines("connection closed", "127.0.0.1", c.log)) > 0
			})
		})
	}
}

// TestSilentConnectionsAreLimited opens more connections than may be without a handshake.
func TestSilentConnectionsAreLimited(t *testing.T) {
	n := startNode(t, 2)
	const limit = 64
	var conns []net.Conn
	for range limit {
		conns = append(conns, dialRaw(t, n, []byte("CNCT")))
	}
	waitClosed(t, dialRaw(t, n, nil))
	waitFor(t, "one log line", func() bool { // it is written after the connection is closed
		return len(n.log.lines("too many connections without a handshake")) == 1
	})
	for _, conn := range conns {
		conn.Close()
	}
	waitFor(t, "a place", func() bool {
		conn, err := net.Dial("tcp", n.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write(helloTo(n, 1, 0).bytes())
		m, _ := conn.Read(make([]byte, 16))
		return m == 16
	})
}
