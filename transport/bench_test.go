package transport

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// benchmarkAppends are the two shapes that appends have: many small entries, and one entry that
// packs as many commands.
func benchmarkAppends() map[string][]*raftpb.Message {
	build := func(entries, size int) []*raftpb.Message {
		m := &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), To: new(uint64(0x8f3a5c7712d94e01)),
			From: new(uint64(0x17c4a90b5fe2d683)), Term: new(uint64(12)), LogTerm: new(uint64(12)),
			Index: new(uint64(1_000_000)), Commit: new(uint64(999_990)),
		}
		for i := range entries {
			m.Entries = append(m.Entries, &raftpb.Entry{
				Type: raftpb.EntryNormal.Enum(), Term: new(uint64(12)),
				Index: new(uint64(1_000_001 + i)), Data: make([]byte, size),
			})
		}
		return []*raftpb.Message{m}
	}
	return map[string][]*raftpb.Message{
		"64x128B": build(64, 128), "1x8KiB": build(1, 8<<10), "empty": build(0, 0),
	}
}

func BenchmarkEncode(b *testing.B) {
	for name, messages := range benchmarkAppends() {
		b.Run("codec/"+name, func(b *testing.B) {
			b.ReportAllocs()
			var out batch
			for b.Loop() {
				out.raft(1, messages)
				b.SetBytes(int64(out.bytes()))
				out.reset()
			}
		})
		b.Run("proto/"+name, func(b *testing.B) {
			b.ReportAllocs()
			var out []byte
			for b.Loop() {
				out, _ = proto.MarshalOptions{}.MarshalAppend(out[:0], messages[0])
				b.SetBytes(int64(len(out)))
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, messages := range benchmarkAppends() {
		payload := payloadOf(messages)
		b.Run("codec/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				// The reader allocates a payload for each frame; so does the benchmark.
				own := append([]byte(nil), payload...)
				if _, err := decodeMessages(own, defaultMaxFrameBytes); err != nil {
					b.Fatal(err)
				}
			}
		})
		encoded, err := proto.Marshal(messages[0])
		if err != nil {
			b.Fatal(err)
		}
		b.Run("proto/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(encoded)))
			for b.Loop() {
				if err := proto.Unmarshal(encoded, &raftpb.Message{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
