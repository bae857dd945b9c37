package transport_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/transport"
)

func TestBadFramesEndTheConnection(t *testing.T) {
	valid := rawFrame(typeRequest, 3, 4, []byte("payload"))
	flipped := func(at int) []byte {
		p := append([]byte(nil), valid...)
		p[at] ^= 1
		return p
	}
	reserved := binary.LittleEndian.AppendUint32(nil, 0)
	reserved = append(reserved, typeRequest, 0, 1, 0)
	reserved = append(reserved, make([]byte, 12)...)
	reserved = binary.LittleEndian.AppendUint32(reserved, checksum(reserved))
	local := append([]byte{1, 0, 0, 0, 0, 0}, byte(raftpb.MsgStorageAppendResp))
	cases := []struct {
		name  string
		lane  byte
		frame []byte
	}{
		{"length", 1, flipped(0)},
		{"type", 1, flipped(4)},
		{"group", 1, flipped(8)},
		{"payload sum", 1, flipped(16)},
		{"header sum", 1, flipped(20)},
		{"payload", 1, flipped(25)},
		{"reserved", 1, reserved},
		{"unknown type", 1, rawFrame(77, 0, 1, nil)},
		{"snapshot frame in a lane", 1, rawFrame(4, 0, 1, make([]byte, 20))},
		{"raft without count", 1, rawFrame(typeRaft, 0, 1, []byte{1})},
		{"raft with claimed messages", 1, rawFrame(typeRaft, 0, 1, []byte{255, 255, 255, 255, 0})},
		{"message of a local thread", 1, rawFrame(typeRaft, 0, 1, local)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			n := startNode(t, 2)
			conn := connectRaw(t, n, 1, c.lane)
			if _, err := conn.Write(append(c.frame, valid...)); err != nil {
				t.Fatal(err)
			}
			waitClosed(t, conn)
			waitFor(t, "the account", func() bool { return statsOf(n, 1).Damaged == 1 })
			if len(n.log.lines("damaged frame from peer")) != 1 {
				t.Error("no log line")
			}
			if got := len(n.requestArrivals()) + len(n.raftArrivals()); got != 0 {
				t.Errorf("%d frames delivered", got)
			}
		})
	}
}

func TestClaimedLengthTakesNoMemory(t *testing.T) {
	n := startNode(t, 2)
	conn := connectRaw(t, n, 1, 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := conn.Write(rawHeader(1<<32-1, typeRequest, 0, 1, 0)); err != nil {
		t.Fatal(err)
	}
	waitClosed(t, conn)
	waitFor(t, "the log line", func() bool {
		return len(n.log.lines("payload of 4294967295 bytes, limit 67108864")) == 1
	})
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 8<<20 {
		t.Errorf("%d bytes were taken", taken)
	}
}

// flippingConn flips one bit of what is written, counted over all connections of a test.
type flippingConn struct {
	net.Conn
	left *atomic.Int64 // bytes until the damage; negative afterwards
	bit  byte
}

func (c flippingConn) Write(p []byte) (int, error) {
	at := c.left.Add(-int64(len(p))) + int64(len(p))
	if at >= 0 && at < int64(len(p)) {
		damaged := append([]byte(nil), p...)
		damaged[at] ^= 1 << c.bit
		p = damaged
	}
	return c.Conn.Write(p)
}

// TestDamageOnTheWireIsNeverDelivered flips a bit at many places of a stream of messages and
// requests. What arrives is always what was sent.
func TestDamageOnTheWireIsNeverDelivered(t *testing.T) {
	want := appendMessage(1, 2, 5, []byte("first entry"), make([]byte, 300))
	payload := make([]byte, 20<<10)
	for i := range 60 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			b := startNode(t, 2)
			var left atomic.Int64
			left.Store(int64(i*i*17) % 25_000)
			if i < 20 {
				left.Store(int64(i * 13)) // in the handshake and the first headers
			}
			a := startNode(t, 1, func(o *transport.Options) {
				o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
					conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
					return flippingConn{conn, &left, byte(i % 8)}, err
				}
			})
			a.SetPeer(2, b.address)
			waitFor(t, "both frames after the damage", func() bool {
				a.SendRaft(2, 9, []*raftpb.Message{want})
				a.Send(2, 8, 7, payload)
				done := left.Load() < 0 && statsOf(a, 2).Connected
				return done && len(b.raftArrivals()) > 3 && len(b.requestArrivals()) > 3
			})
			for _, got := range b.raftArrivals() {
				if !proto.Equal(got.message, want) || got.group != 9 {
					t.Fatalf("delivered %v in group %d", got.message, got.group)
				}
			}
			for _, got := range b.requestArrivals() {
				if string(got.payload) != string(payload) || got.group != 8 || got.kind != 7 {
					t.Fatalf("delivered kind %d of group %d", got.kind, got.group)
				}
			}
		})
	}
}
