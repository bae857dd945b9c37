package transport_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/transport"
)

// BenchmarkRoundTrip measures a message to a peer and its answer, one at a time: twice the
// one-way latency.
func BenchmarkRoundTrip(b *testing.B) {
	back := make(chan struct{}, 1)
	first := startNode(b, 1, func(o *transport.Options) {
		o.Handler.(*recorder).onRaft = func(uint64, uint64, []*raftpb.Message) {
			back <- struct{}{}
		}
	})
	var second *testNode
	second = startNode(b, 2, func(o *transport.Options) {
		o.Handler.(*recorder).onRaft = func(from, group uint64, messages []*raftpb.Message) {
			second.SendRaft(from, group, messages)
		}
	})
	first.SetPeer(2, second.address)
	second.SetPeer(1, first.address)
	waitConnected(b, first, 2)
	waitConnected(b, second, 1)
	b.ReportAllocs()
	for b.Loop() {
		first.SendRaft(2, 1, []*raftpb.Message{heartbeat(1, 2)})
		<-back
	}
}

// BenchmarkThroughput measures appends in one direction with a bounded number in flight.
func BenchmarkThroughput(b *testing.B) {
	for _, size := range []int{128, 8 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("entry=%d", size), func(b *testing.B) {
			var received atomic.Int64
			first := startNode(b, 1)
			second := startNode(b, 2, func(o *transport.Options) {
				o.Handler.(*recorder).onRaft = func(_, _ uint64, messages []*raftpb.Message) {
					received.Add(int64(len(messages)))
				}
			})
			first.SetPeer(2, second.address)
			waitConnected(b, first, 2)
			m := appendMessage(1, 2, 1, make([]byte, size))
			b.ReportAllocs()
			b.SetBytes(int64(size))
			sent := int64(0)
			window := min(16<<10, max(4, int64(16<<20/size)))
			for b.Loop() {
				first.SendRaft(2, 1, []*raftpb.Message{m})
				for sent++; sent-received.Load() >= window; {
					time.Sleep(10 * time.Microsecond)
				}
			}
			for received.Load() < sent {
				time.Sleep(10 * time.Microsecond)
			}
		})
	}
}
