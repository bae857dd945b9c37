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
	var b batch
	b.messages(messages)
	payload := make([]byte, 0, b.bytes())
	for _, part := range b.buffers() {
		payload = append(payload, part...)
	}
	return payload, nil
}

// DecodeMessages decodes the payload of a raft frame, exactly as a lane reads it, and takes the
// payload over. limit bounds the memory, in bytes, that the messages take beside their data.
func DecodeMessages(payload []byte, limit int64) ([]*raftpb.Message, error) {
	return decodeMessages(payload, limit)
}
