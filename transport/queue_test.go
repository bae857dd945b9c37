package transport_test

import (
	"errors"
	"io"
	"net"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/transport"
)

// TestHungPeerCostsItsQueueAndNothingElse sends to one peer that does not read and one that
// does.
func TestHungPeerCostsItsQueueAndNothingElse(t *testing.T) {
	const limit = 1 << 20
	hung := rawPeer(t, 2, func(net.Conn, byte) {})
	a := startNode(t, 1, func(o *transport.Options) { o.QueueBytes = limit })
	c := startNode(t, 3)
	a.SetPeer(2, hung)
	a.SetPeer(3, c.address)
	waitConnected(t, a, 2)
	waitConnected(t, a, 3)

	data := make([]byte, 100<<10)
	for i := range uint64(1000) { // 100 MB, far beyond what the sockets hold
		a.SendRaft(2, 1, []*raftpb.Message{appendMessage(1, 2, i, data)})
		if queued := statsOf(a, 2).QueueBytes; queued > limit {
			t.Fatalf("%d bytes are queued, the limit is %d", queued, limit)
		}
	}
	waitFor(t, "PeerLost", func() bool { return a.losses(2) > 0 })
	if statsOf(a, 2).Drops == 0 {
		t.Error("no drops are counted")
	}
	waitFor(t, "a full queue", func() bool {
		return errors.Is(a.Send(2, 1, 1, data), transport.ErrQueueFull)
	})
	if n := len(a.log.lines("messages to peer dropped")); n != 1 {
		t.Errorf("%d log lines about drops", n)
	}

	a.SendRaft(3, 1, []*raftpb.Message{appendMessage(1, 3, 1, data)})
	waitFor(t, "the other peer", func() bool { return len(c.raftArrivals()) == 1 })
	if a.losses(3) != 0 {
		t.Error("the other peer was reported lost")
	}
}

// TestBulkDoesNotDelayUrgent has a peer that reads only its urgent lane.
func TestBulkDoesNotDelayUrgent(t *testing.T) {
	urgent := make(chan net.Conn, 1)
	address := rawPeer(t, 2, func(conn net.Conn, lane byte) {
		if lane == 0 {
			urgent <- conn
		}
	})
	a := startNode(t, 1)
	a.SetPeer(2, address)
	waitConnected(t, a, 2)
	data := make([]byte, 1<<20)
	for i := range uint64(40) {
		a.SendRaft(2, 1, []*raftpb.Message{appendMessage(1, 2, i, data)})
	}
	waitFor(t, "a stuck bulk lane", func() bool { return statsOf(a, 2).QueueBytes > 8<<20 })
	a.SendRaft(2, 6, []*raftpb.Message{appendMessage(1, 2, 41, data), heartbeat(1, 2)})
	frame := make([]byte, 24)
	conn := <-urgent
	if _, err := conn.Read(frame); err != nil {
		t.Fatal(err)
	}
	if frame[4] != typeRaft || frame[8] != 6 {
		t.Errorf("the urgent lane carries type %d of group %d", frame[4], frame[8])
	}
}

// TestOversizedMessageIsDropped sends what no frame can carry: it is dropped alone.
func TestOversizedMessageIsDropped(t *testing.T) {
	a, b := startPair(t, func(o *transport.Options) { o.MaxFrameBytes = 64 << 10 })
	a.SendRaft(2, 1, []*raftpb.Message{appendMessage(1, 2, 1, make([]byte, 64<<10))})
	waitFor(t, "PeerLost", func() bool { return a.losses(2) == 1 })
	a.SendRaft(2, 1, []*raftpb.Message{appendMessage(1, 2, 2, make([]byte, 60<<10))})
	waitFor(t, "the next message", func() bool { return len(b.raftArrivals()) == 1 })

	many := make([]*raftpb.Message, 100)
	for i := range many {
		many[i] = appendMessage(1, 2, uint64(i), make([]byte, 20<<10))
	}
	a.SendRaft(2, 1, many)
	waitFor(t, "many messages in several frames", func() bool {
		return len(b.raftArrivals()) == 101
	})
	for i, arrival := range b.raftArrivals()[1:] {
		if arrival.message.GetIndex() != uint64(i) {
			t.Fatalf("message %d has index %d", i, arrival.message.GetIndex())
		}
	}
	if a.losses(2) != 1 || len(a.log.lines("frame exceeds the size limit")) != 1 {
		t.Errorf("%d losses", a.losses(2))
	}
}

// TestMessagesAreShared sends the same messages to two peers while they are read elsewhere; the
// race detector is the judge.
func TestMessagesAreShared(t *testing.T) {
	a, b := startPair(t)
	c := startNode(t, 3)
	a.SetPeer(3, c.address)
	waitConnected(t, a, 3)
	m := appendMessage(1, 2, 1, make([]byte, 32<<10), []byte("small"))
	for range 200 {
		a.SendRaft(2, 1, []*raftpb.Message{m})
		a.SendRaft(3, 1, []*raftpb.Message{m})
		_ = m.String()
	}
	waitFor(t, "all messages", func() bool {
		return len(b.raftArrivals()) == 200 && len(c.raftArrivals()) == 200
	})
}

// TestQueueIsFreedByWriting sends far more than a queue holds to a peer that keeps up.
func TestQueueIsFreedByWriting(t *testing.T) {
	a, b := startPair(t, func(o *transport.Options) { o.QueueBytes = 64 << 10 })
	payload := make([]byte, 10<<10)
	for i := range 100 {
		if err := a.Send(2, 1, 1, payload); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the request", func() bool { return len(b.requestArrivals()) == i+1 })
	}
	waitFor(t, "an empty queue", func() bool { return statsOf(a, 2).QueueBytes == 0 })
	if a.losses(2) != 0 {
		t.Errorf("%d losses", a.losses(2))
	}
}

// TestLanesOfMessages has each type of message on the lane that the protocol says.
func TestLanesOfMessages(t *testing.T) {
	bulk := map[raftpb.MessageType]bool{
		raftpb.MsgApp: true, raftpb.MsgProp: true, raftpb.MsgSnap: true,
	}
	types := []raftpb.MessageType{
		raftpb.MsgProp, raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp,
		raftpb.MsgSnap, raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTransferLeader,
		raftpb.MsgTimeoutNow, raftpb.MsgReadIndex, raftpb.MsgReadIndexResp,
		raftpb.MsgPreVote, raftpb.MsgPreVoteResp,
	}
	conns := make(chan net.Conn, 2)
	lanes := make(chan byte, 2)
	a := startNode(t, 1)
	a.SetPeer(2, rawPeer(t, 2, func(conn net.Conn, lane byte) { conns <- conn; lanes <- lane }))
	waitConnected(t, a, 2)
	byLane := map[byte]net.Conn{}
	for range 2 {
		byLane[<-lanes] = <-conns
	}
	for i, messageType := range types {
		a.SendRaft(2, uint64(i), []*raftpb.Message{{Type: messageType.Enum()}})
		lane := byte(0)
		if bulk[messageType] {
			lane = 1
		}
		frame := make([]byte, 24+4+3)
		if _, err := io.ReadFull(byLane[lane], frame); err != nil {
			t.Fatalf("%v in lane %d: %v", messageType, lane, err)
		}
		if frame[8] != byte(i) || frame[30] != byte(messageType) {
			t.Errorf("%v: group %d, type %d in lane %d", messageType, frame[8], frame[30], lane)
		}
	}
}
