package transport_test

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/porttest"
	"github.com/connectraft/connect/transport"
)

// eventsSoFar returns what the handler heard of streams, in order.
func (r *recorder) eventsSoFar() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.events...)
}

func TestPeerRestarts(t *testing.T) {
	a, b := startPair(t)
	b.Close()
	waitFor(t, "PeerLost", func() bool { return a.losses(2) > 0 && !statsOf(a, 2).Connected })
	a.SendRaft(2, 1, []*raftpb.Message{heartbeat(1, 2)}) // dropped

	listener, err := net.Listen("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	again := startNodeOn(t, 2, listener, func(o *transport.Options) { o.Incarnation = 777 })
	again.SetPeer(1, a.address)
	waitConnected(t, a, 2)
	waitFor(t, "PeerUp", func() bool { times, _ := a.arrivals(2); return times >= 2 })
	if _, incarnation := a.arrivals(2); incarnation != 777 {
		t.Errorf("incarnation %d", incarnation)
	}
	if err := a.Send(2, 1, 1, []byte("after")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a request after the restart", func() bool {
		return len(again.requestArrivals()) == 1
	})
	// On a busy machine streams may time out and come again behind that.
	events := a.eventsSoFar()
	if events[0] != "up 2" || events[1] != "lost 2" || !slices.Contains(events[2:], "up 2") {
		t.Errorf("events %q", events)
	}
	if n := len(a.log.lines("peer connected", "peer=2")); n < 2 {
		t.Errorf("%d log lines about connections", n)
	}
}

func TestPeerMoves(t *testing.T) {
	a, b := startPair(t)
	moved := startNode(t, 2)
	a.SetPeer(2, moved.address)
	waitFor(t, "the new address", func() bool {
		a.SendRaft(2, 1, []*raftpb.Message{heartbeat(1, 2)})
		return len(moved.raftArrivals()) > 0
	})
	if got := statsOf(a, 2).Address; got != moved.address {
		t.Errorf("address %s", got)
	}
	if a.losses(2) == 0 {
		t.Error("the end of the old connection was not reported")
	}
	b.Close()
}

// TestMovedPeerIsFound has a peer come back elsewhere than this node was told.
func TestMovedPeerIsFound(t *testing.T) {
	a, b := startPair(t)
	b.Close()
	moved := startNode(t, 2)
	moved.SetPeer(1, a.address)
	waitConnected(t, moved, 1)
	waitFor(t, "node 1 to reach node 2 where it says it is", func() bool {
		s := statsOf(a, 2)
		return s.Connected && s.Address == moved.address
	})
	// It goes back, and nobody is told of that either.
	moved.Close()
	listener, err := net.Listen("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	back := startNodeOn(t, 2, listener)
	back.SetPeer(1, a.address)
	waitFor(t, "node 1 to reach node 2 where it was", func() bool {
		s := statsOf(a, 2)
		return s.Connected && s.Address == b.address
	})
}

// TestMovedPeerIsFoundInSpiteOfStaleWord tells this node of yet another address, where the peer was
// before, or never: an entry that it applies late, or one with a mistake.
func TestMovedPeerIsFoundInSpiteOfStaleWord(t *testing.T) {
	a, b := startPair(t)
	b.Close()
	moved := startNode(t, 2)
	moved.SetPeer(1, a.address)
	found := func() bool {
		s := statsOf(a, 2)
		return s.Connected && s.Address == moved.address
	}
	waitFor(t, "node 1 to reach node 2 where it says it is", found)
	a.SetPeer(2, porttest.Address(t))
	waitFor(t, "node 1 to reach node 2 again", found)
}

// TestPeerBehindARelayIsNotDialled has a peer that says all the time that it is elsewhere than this
// node was told: it has not moved, and what lies between the two may be there on purpose.
func TestPeerBehindARelayIsNotDialled(t *testing.T) {
	relay, dials := porttest.Address(t), make(chan string, 1024)
	a := startNode(t, 1, func(o *transport.Options) {
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			dials <- address
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	})
	a.SetPeer(2, relay)
	for range 2 {
		b := startNode(t, 2, func(o *transport.Options) { o.Address = "127.0.0.1:1" })
		b.SetPeer(1, a.address)
		waitConnected(t, b, 1)
		for range 5 {
			if address := <-dials; address != relay {
				t.Fatalf("node 2 is dialled at %s, want %s", address, relay)
			}
		}
		b.Close()
	}
}

// TestUnknownPeerIsAnswered has a node that was never told of its peer answer it.
func TestUnknownPeerIsAnswered(t *testing.T) {
	a, b := startNode(t, 1), startNode(t, 2)
	a.SetPeer(2, b.address)
	waitConnected(t, b, 1)
	b.SendRaft(1, 1, []*raftpb.Message{heartbeat(2, 1)})
	waitFor(t, "the answer", func() bool { return len(a.raftArrivals()) == 1 })
	if got := statsOf(b, 1).Address; got != a.address {
		t.Errorf("learned address %s", got)
	}
}

func TestRemovedPeerIsRefusedAndTold(t *testing.T) {
	a, b := startPair(t)
	b.RemovePeer(1)
	waitFor(t, "the refusal", func() bool {
		return len(a.log.lines("peer not connected", "node 1 was removed from the cluster")) == 1
	})
	waitFor(t, "PeerLost on both sides", func() bool { return a.losses(2) > 0 && b.losses(1) > 0 })
	if len(b.Stats()) != 0 {
		t.Errorf("stats %+v", b.Stats())
	}
	b.SetPeer(1, a.address)
	waitConnected(t, a, 2)
	waitConnected(t, b, 1)
}

// TestNewestConnectionCounts connects twice as the same node and lane.
func TestNewestConnectionCounts(t *testing.T) {
	n := startNode(t, 2)
	older := connectRaw(t, n, 1, 1)
	otherLane := connectRaw(t, n, 1, 0)
	if _, err := older.Write(rawFrame(typeRequest, 0, 1, []byte("older"))); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the older frame", func() bool { return len(n.requestArrivals()) == 1 })
	newer := connectRaw(t, n, 1, 1)
	waitClosed(t, older)
	if _, err := newer.Write(rawFrame(typeRequest, 0, 1, []byte("newer"))); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the newer frame", func() bool { return len(n.requestArrivals()) == 2 })
	message := append([]byte{1, 0, 0, 0, 0, 0}, byte(raftpb.MsgHeartbeat))
	if _, err := otherLane.Write(rawFrame(typeRaft, 0, 1, message)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the other lane's frame", func() bool { return len(n.raftArrivals()) == 1 })
	waitFor(t, "PeerLost", func() bool { return n.losses(1) > 0 })
}

func TestClose(t *testing.T) {
	a, b := startPair(t)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	a.SetPeer(9, "127.0.0.1:1")
	a.RemovePeer(9)
	a.Start()
	a.SendRaft(2, 1, []*raftpb.Message{heartbeat(1, 2)})
	waitFor(t, "the peer to notice", func() bool { return b.losses(1) > 0 })
	if conn, err := net.Dial("tcp", a.address); err == nil {
		conn.Close()
		t.Error("the listener is still open")
	}
}

// TestDropsAreReportedBeforeTheConnection drops messages to a peer that was never there. Once it
// is, the handler hears of the loss first.
func TestDropsAreReportedBeforeTheConnection(t *testing.T) {
	address := porttest.Address(t)
	a := startNode(t, 1)
	a.SetPeer(2, address)
	a.SendRaft(2, 1, []*raftpb.Message{heartbeat(1, 2), appendMessage(1, 2, 1)})
	if drops := statsOf(a, 2).Drops; drops != 2 {
		t.Errorf("%d drops", drops)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	startNodeOn(t, 2, listener)
	waitFor(t, "PeerUp", func() bool { times, _ := a.arrivals(2); return times == 1 })
	if events := a.eventsSoFar(); len(events) < 2 || events[0] != "lost 2" {
		t.Errorf("events %q", events)
	}
}

// TestNewerConnectionWaitsForTheOlder holds the handler at a frame of the older connection. The
// newer one is not answered before that frame is done with, so that nothing overtakes it.
func TestNewerConnectionWaitsForTheOlder(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	n := startNode(t, 2, func(o *transport.Options) {
		o.Handler.(*recorder).onRequest = func(uint64, uint64, transport.Kind, []byte) {
			entered <- struct{}{}
			<-release
		}
	})
	older := connectRaw(t, n, 1, 1)
	if _, err := older.Write(rawFrame(typeRequest, 0, 1, nil)); err != nil {
		t.Fatal(err)
	}
	<-entered
	newer := dialRaw(t, n, helloTo(n, 1, 1).bytes())
	waitClosed(t, older) // the newer handshake has been read
	newer.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := newer.Read(make([]byte, 1)); !isTimeoutError(err) {
		t.Errorf("the newer connection was answered too early: %v", err)
	}
	close(release)
	newer.SetReadDeadline(time.Now().Add(20 * time.Second))
	if reason, text := readReply(t, newer); reason != 0 {
		t.Errorf("refused: %d %s", reason, text)
	}
}
