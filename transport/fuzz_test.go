package transport

import (
	"bytes"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// FuzzDecodeMessages looks for payloads that crash the decoder, take more memory than they may,
// or mean something else after another round trip.
func FuzzDecodeMessages(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		f.Add(payloadOf([]*raftpb.Message{randomMessage(r), randomMessage(r)}))
	}
	const limit = 1 << 16
	f.Fuzz(func(t *testing.T, payload []byte) {
		first, err := decodeMessages(bytes.Clone(payload), limit)
		if err != nil {
			return
		}
		cost := int64(0)
		for _, m := range first {
			if err := checkMessage(m); err != nil {
				t.Fatalf("decoded what cannot be sent: %v", err)
			}
			cost += messageCost + int64(len(m.Entries))*entryCost
		}
		if cost > limit {
			t.Fatalf("decoded %d bytes, limit %d", cost, limit)
		}
		second, err := decodeMessages(payloadOf(first), limit)
		if err != nil || len(second) != len(first) {
			t.Fatalf("%d messages became %d: %v", len(first), len(second), err)
		}
		for i := range first {
			if !proto.Equal(first[i], second[i]) {
				t.Fatalf("%v became %v", first[i], second[i])
			}
		}
	})
}

// FuzzHandshake looks for handshakes that crash the reader, and for any that it reads beyond.
func FuzzHandshake(f *testing.F) {
	f.Add(hello{versionMin: 1, versionMax: 1, node: 1, cluster: "c", address: "a"}.encode())
	f.Add(welcome{version: 1, node: 2, cluster: "c", text: "t"}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		if h, err := readHello(r); err == nil {
			again, err := readHello(bytes.NewReader(h.encode()))
			if err != nil || again != h {
				t.Fatalf("%+v became %+v: %v", h, again, err)
			}
		}
		readWelcome(bytes.NewReader(data))
	})
}

// bytesConn is a connection that yields bytes in pieces of the given size.
type bytesConn struct {
	net.Conn
	rest  []byte
	piece int
}

func (c *bytesConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.piece)], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *bytesConn) SetReadDeadline(time.Time) error { return nil }

// FuzzFrames has the reader take frames apart however they arrive, and refuse each damaged one.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("payload"), uint16(3), uint16(1))
	f.Add(make([]byte, 300), uint16(200), uint16(64))
	f.Add([]byte{}, uint16(23), uint16(5000))
	f.Fuzz(func(t *testing.T, payload []byte, damageAt, piece uint16) {
		var b batch
		for range 3 {
			b.request(7, 9, payload)
		}
		stream := bytes.Join(b.buffers(), nil)
		at := int(damageAt) % len(stream)
		for _, damage := range []byte{0, 1 << (at % 8)} {
			stream[at] ^= damage
			conn := &bytesConn{rest: stream, piece: 1 + int(piece)}
			r := newFrameReader(conn, 1<<20, 256)
			whole, frame := 0, frameHeaderBytes+len(payload)
			for {
				h, got, err := r.next()
				if err != nil {
					break
				}
				if h.group != 7 || h.kind != 9 || !bytes.Equal(got, payload) {
					t.Fatalf("frame %d: %+v %x", whole, h, got)
				}
				whole++
			}
			want := 3
			if damage != 0 {
				want = at / frame
			}
			if whole != want {
				t.Fatalf("%d frames were whole, want %d", whole, want)
			}
		}
	})
}

// TestDecodeEveryPrefix cuts a payload short at every byte.
func TestDecodeEveryPrefix(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		payload := payloadOf([]*raftpb.Message{randomMessage(r), randomMessage(r)})
		for n := range payload {
			if n > 4000 && n < len(payload)-4000 {
				continue
			}
			if _, err := decodeMessages(payload[:n], defaultMaxFrameBytes); err == nil {
				t.Fatalf("%d of %d bytes decode", n, len(payload))
			}
		}
	}
}

func TestDecodeLimits(t *testing.T) {
	m := &raftpb.Message{Type: raftpb.MsgApp.Enum(), Entries: make([]*raftpb.Entry, 1000)}
	payload := payloadOf([]*raftpb.Message{m})
	need := int64(messageCost + 1000*entryCost)
	if _, err := decodeMessages(payload, need); err != nil {
		t.Errorf("within the limit: %v", err)
	}
	if _, err := decodeMessages(payload, need-1); err == nil {
		t.Error("beyond the limit: no error")
	}
	if costOf(m) < need {
		t.Errorf("the sender reckons %d, the receiver %d", costOf(m), need)
	}
}

// TestWireFormat pins the bytes of version 1. A change here is a new protocol version.
func TestWireFormat(t *testing.T) {
	m := &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(300)),
		LogTerm: new(uint64(5)), Index: new(uint64(10)), Commit: new(uint64(9)), Reject: new(true),
		Context:  []byte("ctx"),
		Snapshot: &raftpb.Snapshot{Data: []byte("s")},
		Entries: []*raftpb.Entry{
			{
				Type: raftpb.EntryNormal.Enum(), Term: new(uint64(300)), Index: new(uint64(11)),
				Data: []byte("a"),
			},
			{
				Type: raftpb.EntryConfChangeV2.Enum(), Term: new(uint64(301)),
				Index: new(uint64(20)),
			},
			{Data: []byte{}},
		},
	}
	var b batch
	b.raft(0x0102030405060708, []*raftpb.Message{m})
	b.ping()
	cases := []struct {
		name string
		got  []byte
		want string
	}{
		{"hello", hello{
			versionMin: 1, versionMax: 2, node: 3, target: 4, incarnation: 5, lane: 1,
			cluster: "cl", address: "a:1",
		}.encode(), "434e435450454552 0100 0200 22000000" +
			"0300000000000000 0400000000000000 0500000000000000 01 0200636c 0300613a31 b96171f8"},
		{"welcome", welcome{
			version: 1, reason: wrongNode, node: 3, incarnation: 5, cluster: "cl", text: "why",
		}.encode(), "434e43545245504c 0100 0300 19000000" +
			"0300000000000000 0500000000000000 0200636c 0300776879 4c66b263"},
		{"frames", b.buffer, "20000000 01 00 0000 0807060504030201 49201bc9 7bc36e72" +
			"01000000 3f1f 03 02 01 ac02 05 0a 09 03637478 030a0173" +
			"03 69 0161 17 ad02 14 40 00" +
			"00000000 03 00 0000 0000000000000000 00000000 cd363daf"},
	}
	for _, c := range cases {
		want := strings.ReplaceAll(c.want, " ", "")
		if got := hex.EncodeToString(c.got); got != want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, want)
		}
	}
}
