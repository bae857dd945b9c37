package transport_test

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func appendMessage(from, to, index uint64, data ...[]byte) *raftpb.Message {
	m := &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: new(from), To: new(to),
		Term: new(uint64(7)), LogTerm: new(uint64(7)), Index: new(index), Commit: new(index),
	}
	for i, d := range data {
		m.Entries = append(m.Entries, &raftpb.Entry{
			Type: raftpb.EntryNormal.Enum(), Term: new(uint64(7)),
			Index: new(index + 1 + uint64(i)), Data: d,
		})
	}
	return m
}

func heartbeat(from, to uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(from), To: new(to),
		Term: new(uint64(7)), Commit: new(uint64(3)),
	}
}

func TestMessagesArriveInOrder(t *testing.T) {
	a, b := startPair(t)
	const count = 2000
	for i := range uint64(count) {
		a.SendRaft(b.id, i%3, []*raftpb.Message{
			heartbeat(a.id, b.id), appendMessage(a.id, b.id, i, []byte("one"), []byte("two")),
		})
		if err := a.Send(b.id, i, transport.Kind(i%5), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "all frames", func() bool {
		return len(b.raftArrivals()) == 2*count && len(b.requestArrivals()) == count
	})
	next := uint64(0)
	for _, arrival := range b.raftArrivals() {
		if arrival.from != a.id {
			t.Fatalf("from %d", arrival.from)
		}
		if arrival.message.GetType() != raftpb.MsgApp {
			continue
		}
		want := appendMessage(a.id, b.id, next, []byte("one"), []byte("two"))
		if !proto.Equal(arrival.message, want) || arrival.group != next%3 {
			t.Fatalf("group %d: got %v, want %v", arrival.group, arrival.message, want)
		}
		next++
	}
	for i, arrival := range b.requestArrivals() {
		if arrival.group != uint64(i) || arrival.kind != transport.Kind(i%5) ||
			arrival.payload[0] != byte(i) {
			t.Fatalf("request %d is %+v", i, arrival)
		}
	}
	if n := a.losses(b.id) + b.losses(a.id); n != 0 {
		t.Errorf("%d losses reported", n)
	}
	if times, incarnation := a.arrivals(b.id); times != 1 || incarnation != 102 {
		t.Errorf("PeerUp called %d times, incarnation %d", times, incarnation)
	}
}

func TestSendErrors(t *testing.T) {
	a := startNode(t, 1)
	if err := a.Send(2, 1, 1, nil); !errors.Is(err, transport.ErrUnknownPeer) {
		t.Errorf("unknown peer: %v", err)
	}
	a.SendRaft(2, 1, []*raftpb.Message{heartbeat(1, 2)})
	waitFor(t, "PeerLost for an unknown peer", func() bool { return a.losses(2) > 0 })

	a.SetPeer(2, "127.0.0.1:1")
	if err := a.Send(2, 1, 1, nil); !errors.Is(err, transport.ErrNotConnected) {
		t.Errorf("unreachable peer: %v", err)
	}
	if err := a.Send(2, 1, 1, make([]byte, 64<<20)); !errors.Is(err, transport.ErrFrameTooLarge) {
		t.Errorf("large payload: %v", err)
	}
	a.Close()
	if err := a.Send(2, 1, 1, nil); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
