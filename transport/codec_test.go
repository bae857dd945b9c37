package transport

import (
	"math/rand/v2"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// networkTypes are the message types that peers send.
var networkTypes = []raftpb.MessageType{
	raftpb.MsgProp, raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp,
	raftpb.MsgSnap, raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTransferLeader,
	raftpb.MsgTimeoutNow, raftpb.MsgReadIndex, raftpb.MsgReadIndexResp,
	raftpb.MsgPreVote, raftpb.MsgPreVoteResp,
}

// payloadOf encodes messages as a raft frame's payload.
func payloadOf(messages []*raftpb.Message) []byte {
	var b batch
	b.raft(1, messages)
	var p []byte
	for _, part := range b.buffers() {
		p = append(p, part...)
	}
	return p[frameHeaderBytes:]
}

func randomNumber(r *rand.Rand) *uint64 {
	if r.IntN(3) == 0 {
		return nil
	}
	return new(r.Uint64() >> r.IntN(64))
}

func randomBytes(r *rand.Rand) []byte {
	if r.IntN(3) == 0 {
		return nil
	}
	size := r.IntN(64)
	if r.IntN(20) == 0 {
		size = r.IntN(3 * referenceBytes)
	}
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func randomEntries(r *rand.Rand, m *raftpb.Message) []*raftpb.Entry {
	entries := make([]*raftpb.Entry, r.IntN(6))
	regular := r.IntN(2) == 0
	for i := range entries {
		e := &raftpb.Entry{Data: randomBytes(r), Term: randomNumber(r), Index: randomNumber(r)}
		if n := r.IntN(4); n > 0 {
			e.Type = raftpb.EntryType(n - 1).Enum()
		}
		if regular {
			e.Term, e.Index = new(m.GetTerm()), new(m.GetIndex()+1+uint64(i))
		}
		entries[i] = e
	}
	return entries
}

func randomMessage(r *rand.Rand) *raftpb.Message {
	m := &raftpb.Message{
		Type: networkTypes[r.IntN(len(networkTypes))].Enum(),
		To:   randomNumber(r), From: randomNumber(r), Term: randomNumber(r),
		LogTerm: randomNumber(r), Index: randomNumber(r), Commit: randomNumber(r),
		Vote: randomNumber(r), RejectHint: randomNumber(r), Context: randomBytes(r),
	}
	if n := r.IntN(3); n > 0 {
		m.Reject = new(n == 1)
	}
	if r.IntN(4) == 0 {
		m.Snapshot = &raftpb.Snapshot{Data: randomBytes(r)}
		if r.IntN(2) == 0 {
			m.Snapshot.Metadata = &raftpb.SnapshotMetadata{
				Index: randomNumber(r), Term: randomNumber(r),
				ConfState: &raftpb.ConfState{
					Voters: []uint64{1, 2, r.Uint64()}, AutoLeave: new(true),
				},
			}
		}
	}
	m.Entries = randomEntries(r, m)
	return m
}

func TestCodecKeepsMessages(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3_000 {
		messages := make([]*raftpb.Message, r.IntN(4))
		for i := range messages {
			messages[i] = randomMessage(r)
		}
		got, err := decodeMessages(payloadOf(messages), defaultMaxFrameBytes)
		if err != nil {
			t.Fatalf("%v: %v", messages, err)
		}
		if len(got) != len(messages) {
			t.Fatalf("%d messages became %d", len(messages), len(got))
		}
		for i := range got {
			if !proto.Equal(got[i], messages[i]) {
				t.Fatalf("message %v became %v", messages[i], got[i])
			}
		}
	}
}
