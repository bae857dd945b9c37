package transport_test

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"testing"
	"time"
)

// The functions below speak the peer protocol byte by byte, as docs/peer-protocol.md describes
// it, so that the tests notice when the description and the package part.

func checksum(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }

// rawHello is a hello of protocol version 1.
type rawHello struct {
	magic                     string
	versionMin, versionMax    uint16
	node, target, incarnation uint64
	lane                      byte
	cluster, address          string
}

func helloTo(target *testNode, from uint64, lane byte) rawHello {
	return rawHello{
		magic: "CNCTPEER", versionMin: 1, versionMax: 1, node: from, target: target.id,
		incarnation: 9, lane: lane, cluster: "test", address: "127.0.0.1:1",
	}
}

func (h rawHello) bytes() []byte {
	var body []byte
	body = binary.LittleEndian.AppendUint64(body, h.node)
	body = binary.LittleEndian.AppendUint64(body, h.target)
	body = binary.LittleEndian.AppendUint64(body, h.incarnation)
	body = append(body, h.lane)
	body = binary.LittleEndian.AppendUint16(body, uint16(len(h.cluster)))
	body = append(body, h.cluster...)
	body = binary.LittleEndian.AppendUint16(body, uint16(len(h.address)))
	body = append(body, h.address...)
	p := binary.LittleEndian.AppendUint16([]byte(h.magic), h.versionMin)
	p = binary.LittleEndian.AppendUint16(p, h.versionMax)
	p = binary.LittleEndian.AppendUint32(p, uint32(len(body)))
	p = append(p, body...)
	return binary.LittleEndian.AppendUint32(p, checksum(p))
}

// rawWelcome is what an acceptor that claims to be node answers.
func rawWelcome(node uint64) []byte {
	var body []byte
	body = binary.LittleEndian.AppendUint64(body, node)
	body = binary.LittleEndian.AppendUint64(body, 9)
	body = append(body, 4, 0)
	body = append(body, "test"...)
	body = append(body, 0, 0)
	p := append([]byte("CNCTREPL"), 1, 0, 0, 0)
	p = binary.LittleEndian.AppendUint32(p, uint32(len(body)))
	p = append(p, body...)
	return binary.LittleEndian.AppendUint32(p, checksum(p))
}

func rawHeader(length uint32, frameType, kind byte, group uint64, payloadSum uint32) []byte {
	p := binary.LittleEndian.AppendUint32(nil, length)
	p = append(p, frameType, kind, 0, 0)
	p = binary.LittleEndian.AppendUint64(p, group)
	p = binary.LittleEndian.AppendUint32(p, payloadSum)
	return binary.LittleEndian.AppendUint32(p, checksum(p))
}

func rawFrame(frameType, kind byte, group uint64, payload []byte) []byte {
	header := rawHeader(uint32(len(payload)), frameType, kind, group, checksum(payload))
	return append(header, payload...)
}

const (
	typeRaft    = 1
	typeRequest = 2
)

// dialRaw connects to n, sends p and closes the connection with the test.
func dialRaw(t *testing.T, n *testNode, p []byte) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", n.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write(p); err != nil {
		t.Fatal(err)
	}
	return conn
}

// readReply reads a welcome and returns its reason and text.
func readReply(t *testing.T, conn net.Conn) (reason uint16, text string) {
	t.Helper()
	prefix := make([]byte, 16)
	if _, err := io.ReadFull(conn, prefix); err != nil {
		t.Fatalf("reading the welcome: %v", err)
	}
	body := make([]byte, binary.LittleEndian.Uint32(prefix[12:])+4)
	if _, err := io.ReadFull(conn, body); err != nil {
		t.Fatalf("reading the welcome: %v", err)
	}
	cluster := binary.LittleEndian.Uint16(body[16:])
	text = string(body[18+cluster+2 : len(body)-4])
	return binary.LittleEndian.Uint16(prefix[10:]), text
}

// connectRaw completes a handshake as node from.
func connectRaw(t *testing.T, n *testNode, from uint64, lane byte) net.Conn {
	t.Helper()
	conn := dialRaw(t, n, helloTo(n, from, lane).bytes())
	if reason, text := readReply(t, conn); reason != 0 {
		t.Fatalf("refused for reason %d: %s", reason, text)
	}
	return conn
}

// waitClosed waits until the other side closes conn.
func waitClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); isTimeoutError(err) {
		t.Fatal("the connection was not closed")
	}
}

func isTimeoutError(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// rawPeer accepts connections as a node that completes handshakes and then does with each
// connection what serve says.
func rawPeer(t *testing.T, id uint64, serve func(conn net.Conn, lane byte)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		listener.Close()
		<-done
	})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			prefix := make([]byte, 16)
			if _, err := io.ReadFull(conn, prefix); err != nil {
				continue
			}
			body := make([]byte, binary.LittleEndian.Uint32(prefix[12:])+4)
			if _, err := io.ReadFull(conn, body); err != nil {
				continue
			}
			conn.Write(rawWelcome(id))
			serve(conn, body[24])
		}
	}()
	return listener.Addr().String()
}
