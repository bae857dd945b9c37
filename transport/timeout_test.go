package transport_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/transport"
)

func onNetwork(n *memoryNetwork) nodeOption {
	return func(o *transport.Options) { o.Dial = n.dial }
}

// TestIdlePeersStayConnected lets a day pass without traffic.
func TestIdlePeersStayConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newMemoryNetwork()
		a := startNodeOn(t, 1, network.listen("a"), onNetwork(network))
		b := startNodeOn(t, 2, network.listen("b"), onNetwork(network))
		a.SetPeer(2, "b")
		b.SetPeer(1, "a")
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		for _, n := range []*testNode{a, b} {
			times, _ := n.arrivals(3 - n.id)
			if times != 1 || n.losses(3-n.id) != 0 {
				t.Errorf("node %d: %d times up, %d times lost", n.id, times, n.losses(3-n.id))
			}
		}
		a.Close()
		b.Close()
	})
}

// TestHungPeerIsGivenUp has a peer that completes handshakes and then neither reads nor writes,
// as a stopped process or a vanished host does.
func TestHungPeerIsGivenUp(t *testing.T) {
	for _, busy := range []bool{false, true} {
		t.Run(map[bool]string{false: "idle", true: "busy"}[busy], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := newMemoryNetwork()
				hung := network.listen("hung")
				go func() {
					for {
						conn, err := hung.Accept()
						if err != nil {
							return
						}
						readHelloRaw(conn)
						conn.Write(rawWelcome(2))
					}
				}()
				a := startNodeOn(t, 1, network.listen("a"), onNetwork(network))
				a.SetPeer(2, "hung")
				begun := time.Now()
				synctest.Wait()
				for a.losses(2) == 0 {
					if busy {
						a.SendRaft(2, 1, []*raftpb.Message{heartbeat(1, 2)})
					}
					time.Sleep(100 * time.Millisecond)
				}
				if took := time.Since(begun); took < 9*time.Second || took > 11*time.Second {
					t.Errorf("given up after %v", took)
				}
				a.Close()
				hung.Close()
			})
		})
	}
}

func readHelloRaw(conn net.Conn) {
	prefix := make([]byte, 16)
	io.ReadFull(conn, prefix)
	io.ReadFull(conn, make([]byte, int(prefix[12])+4))
}

// TestSilentDiallerIsGivenUp tests the acceptor's deadlines before and after the handshake.
func TestSilentDiallerIsGivenUp(t *testing.T) {
	cases := []struct {
		name string
		send []byte
		want time.Duration
	}{
		{"before the handshake", []byte("CNCT"), 5 * time.Second},
		{"after the handshake", rawHello{
			magic: "CNCTPEER", versionMin: 1, versionMax: 1, node: 1, target: 2,
			lane: 1, cluster: "test", address: "nowhere",
		}.bytes(), 10 * time.Second},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := newMemoryNetwork()
				b := startNodeOn(t, 2, network.listen("b"), onNetwork(network))
				conn, err := network.dial(t.Context(), "b")
				if err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				conn.Write(c.send)
				io.Copy(io.Discard, conn)
				if took := time.Since(begun); took != c.want {
					t.Errorf("closed after %v, want %v", took, c.want)
				}
				conn.Close()
				b.Close()
			})
		})
	}
}

// TestSlowSnapshotIsNotGivenUp has a body and a handler that each pause for far longer than a
// hung peer is given.
func TestSlowSnapshotIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newMemoryNetwork()
		a := startNodeOn(t, 1, network.listen("a"), onNetwork(network))
		b := startNodeOn(t, 2, network.listen("b"), onNetwork(network), func(o *transport.Options) {
			o.Handler.(*recorder).onSnapshot = func(
				ctx context.Context, _, _ uint64, _ *raftpb.Message, size int64, r io.Reader,
			) error {
				time.Sleep(time.Hour)
				n, err := io.Copy(io.Discard, r)
				if err != nil || n != size {
					t.Errorf("read %d of %d bytes: %v", n, size, err)
				}
				time.Sleep(time.Hour)
				return ctx.Err()
			}
		})
		a.SetPeer(2, "b")
		err := a.SendSnapshot(t.Context(), 2, 1, snapshotMessage(), 1<<20, slowZeros{})
		if err != nil {
			t.Error(err)
		}
		a.Close()
		b.Close()
	})
}

type slowZeros struct{}

func (slowZeros) Read(p []byte) (int, error) {
	time.Sleep(20 * time.Minute)
	return min(len(p), 100_000), nil
}

// TestHungSnapshotReceiverIsGivenUp has a receiver that stops after the handshake.
func TestHungSnapshotReceiverIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newMemoryNetwork()
		hung := network.listen("hung")
		go func() {
			for {
				conn, err := hung.Accept()
				if err != nil {
					return
				}
				readHelloRaw(conn)
				conn.Write(rawWelcome(2))
			}
		}()
		a := startNodeOn(t, 1, network.listen("a"), onNetwork(network))
		a.SetPeer(2, "hung")
		begun := time.Now()
		err := a.SendSnapshot(t.Context(), 2, 1, snapshotMessage(), 1<<20, zeros{})
		if took := time.Since(begun); err == nil || took > 11*time.Second {
			t.Errorf("error %v after %v", err, took)
		}
		a.Close()
		hung.Close()
	})
}

// TestRetriesBackOff counts dials to a peer that is not there.
func TestRetriesBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int64
		network := newMemoryNetwork()
		a := startNodeOn(t, 1, network.listen("a"), func(o *transport.Options) {
			o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
				dials.Add(1)
				return network.dial(ctx, address)
			}
		})
		a.SetPeer(2, "b")
		time.Sleep(100 * time.Second)
		// Two lanes, each waiting half a second to one after the first few dials.
		if n := dials.Load(); n < 200 || n > 420 {
			t.Errorf("%d dials in 100 s", n)
		}
		if n := len(a.log.lines("peer not connected", "no such host")); n != 1 {
			t.Errorf("%d log lines", n)
		}

		b := startNodeOn(t, 2, network.listen("b"), onNetwork(network))
		b.SetPeer(1, "a")
		begun := time.Now()
		for times, _ := a.arrivals(2); times == 0; times, _ = a.arrivals(2) {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(begun); took > 10*time.Millisecond {
			t.Errorf("a peer that dials is dialled back only after %v", took)
		}
		a.Close()
		b.Close()
	})
}

// countingConn counts the calls that reach the kernel.
type countingConn struct {
	net.Conn
	writes, reads *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.reads.Add(1)
	return n, err
}

type countingListener struct {
	net.Listener
	writes, reads *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return countingConn{conn, l.writes, l.reads}, err
}

// TestSmallFrameIsOneWriteAndOneRead counts system calls of frames sent one at a time. Pings
// and signs of life may add a few.
func TestSmallFrameIsOneWriteAndOneRead(t *testing.T) {
	var writes, reads, ignored atomic.Int64
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := startNodeOn(t, 2, countingListener{listener, &ignored, &reads})
	a := startNode(t, 1, func(o *transport.Options) {
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			return countingConn{conn, &writes, &ignored}, err
		}
	})
	a.SetPeer(2, b.address)
	waitConnected(t, a, 2)
	writes.Store(0)
	reads.Store(0)
	const count = 200
	for i := range count {
		a.SendRaft(2, 1, []*raftpb.Message{appendMessage(1, 2, uint64(i), make([]byte, 1000))})
		waitFor(t, "the frame", func() bool { return len(b.raftArrivals()) == i+1 })
	}
	if n, m := writes.Load(), reads.Load(); n > count+5 || m > count+10 {
		t.Errorf("%d frames took %d writes and %d reads", count, n, m)
	}
}
