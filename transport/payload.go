package transport

import (
	"go.etcd.io/raft/v3/raftpb"
)

// EncodeMessages returns the payload of a raft frame, exactly as a lane writes it. It is for tools
// and simulations that carry payloads themselves. The error says which message cannot travel
// between nodes; messages are only read.
func EncodeMessages(messages []*raftpb.Message) ([]byte, error) {
	for _, m := range messages {
		if err := checkMessage(m); err != nil {
			return nil, err
		}
	}
	b := batch{buffer: make([]byte, 0, payloadBytes(messages))}
	b.messages(messages)
	if len(b.references) == 0 {
		return b.buffer, nil
	}
	payload := make([]byte, 0, b.bytes())
	for _, part := range b.buffers() {
		payload = append(payload, part...)
	}
	return payload, nil
}

// payloadBytes is about the size of a payload, so that most take one allocation.
func payloadBytes(messages []*raftpb.Message) int {
	n := 4
	for _, m := range messages {
		n += 28 + len(m.Context)
		for _, e := range m.Entries {
			n += 4 + min(len(e.GetData()), referenceBytes)
		}
	}
	return n
}

// DecodeMessages decodes the payload of a raft frame, exactly as a lane reads it, and takes the
// payload over. limit bounds the memory, in bytes, that the messages take beside their data.
func DecodeMessages(payload []byte, limit int64) ([]*raftpb.Message, error) {
	return decodeMessages(payload, limit)
}
