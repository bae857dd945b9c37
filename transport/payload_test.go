package transport_test

import (
	"bytes"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/transport"
)

func TestPayloadRoundTrip(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 100<<10) // beyond what a lane copies
	messages := []*raftpb.Message{
		{Type: raftpb.MsgHeartbeat.Enum(), To: new(uint64(2)), From: new(uint64(1)),
			Term: new(uint64(3)), Context: []byte("12345678")},
		{Type: raftpb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(3)),
			LogTerm: new(uint64(2)), Index: new(uint64(7)), Entries: []*raftpb.Entry{
				{Term: new(uint64(3)), Index: new(uint64(8)), Data: large},
				{Term: new(uint64(3)), Index: new(uint64(9)), Data: []byte("small")}}},
	}
	payload, err := transport.EncodeMessages(messages)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := transport.DecodeMessages(bytes.Clone(payload), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if len(decoded) != len(messages) {
		t.Fatalf("%d messages came back of %d", len(decoded), len(messages))
	}
	for i := range messages {
		if !proto.Equal(messages[i], decoded[i]) {
			t.Errorf("message %d came back as %v, want %v", i, decoded[i], messages[i])
		}
	}
	if _, err := transport.DecodeMessages(payload[:len(payload)-1], 1<<20); err == nil {
		t.Error("a payload without its last byte was decoded")
	}
	local := []*raftpb.Message{{Type: raftpb.MsgHup.Enum()}}
	if _, err := transport.EncodeMessages(local); err == nil {
		t.Error("a local message was encoded")
	}
}
