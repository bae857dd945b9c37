package transport_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/porttest"
	"github.com/connectraft/connect/transport"
)

// testNode is a transport on a loopback socket with a handler that records what arrives.
type testNode struct {
	*transport.Transport
	*recorder
	id      uint64
	address string
	log     *logBuffer
}

type nodeOption func(*transport.Options)

// startNode starts a node that is closed with the test, at an address that is kept free for the next
// one if it is closed before.
func startNode(t testing.TB, id uint64, options ...nodeOption) *testNode {
	t.Helper()
	listener, err := net.Listen("tcp", porttest.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	return startNodeOn(t, id, listener, options...)
}

func startNodeOn(t testing.TB, id uint64, listener net.Listener, options ...nodeOption) *testNode {
	t.Helper()
	n := &testNode{
		recorder: newRecorder(), id: id, address: listener.Addr().String(), log: &logBuffer{},
	}
	o := transport.Options{
		ClusterID: "test", NodeID: id, Incarnation: 100 + id,
		Address: n.address, Listener: listener, Handler: n.recorder,
		Logger: slog.New(slog.NewTextHandler(n.log, nil)),
	}
	for _, change := range options {
		change(&o)
	}
	var err error
	if n.Transport, err = transport.New(o); err != nil {
		t.Fatal(err)
	}
	n.Start()
	t.Cleanup(func() { n.Close() })
	return n
}

// startPair starts two nodes that know each other and waits until both are connected.
func startPair(t testing.TB, options ...nodeOption) (*testNode, *testNode) {
	t.Helper()
	a, b := startNode(t, 1, options...), startNode(t, 2, options...)
	a.SetPeer(b.id, b.address)
	b.SetPeer(a.id, a.address)
	waitConnected(t, a, b.id)
	waitConnected(t, b, a.id)
	return a, b
}

func waitConnected(t testing.TB, n *testNode, peer uint64) {
	t.Helper()
	waitFor(t, fmt.Sprintf("node %d to reach node %d", n.id, peer), func() bool {
		return statsOf(n, peer).Connected
	})
}

func statsOf(n *testNode, peer uint64) transport.PeerStats {
	for _, s := range n.Stats() {
		if s.ID == peer {
			return s
		}
	}
	return transport.PeerStats{}
}

// waitFor polls until condition holds.
func waitFor(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

type raftArrival struct {
	from, group uint64
	message     *raftpb.Message
}

type requestArrival struct {
	from, group uint64
	kind        transport.Kind
	payload     []byte
}

// recorder is a handler that keeps what it is given.
type recorder struct {
	mu       sync.Mutex
	raft     []raftArrival
	requests []requestArrival
	lost, up map[uint64]int
	peerInc  map[uint64]uint64
	events   []string

	// The functions below replace the recording when they are set before the first frame.
	onRaft     func(from, group uint64, messages []*raftpb.Message)
	onRequest  func(from, group uint64, kind transport.Kind, payload []byte)
	onSnapshot snapshotHandler
}

func newRecorder() *recorder {
	return &recorder{lost: map[uint64]int{}, up: map[uint64]int{}, peerInc: map[uint64]uint64{}}
}

var _ transport.Handler = (*recorder)(nil)

func (r *recorder) HandleRaft(from, group uint64, messages []*raftpb.Message) {
	if r.onRaft != nil {
		r.onRaft(from, group, messages)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range messages {
		r.raft = append(r.raft, raftArrival{from, group, m})
	}
}

func (r *recorder) HandleRequest(from, group uint64, kind transport.Kind, payload []byte) {
	if r.onRequest != nil {
		r.onRequest(from, group, kind, payload)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, requestArrival{from, group, kind, payload})
}

func (r *recorder) HandleSnapshot(
	ctx context.Context, from, group uint64, m *raftpb.Message, size int64, body io.Reader,
) error {
	return r.onSnapshot(ctx, from, group, m, size, body)
}

func (r *recorder) PeerLost(peer uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost[peer]++
	r.events = append(r.events, fmt.Sprintf("lost %d", peer))
}

func (r *recorder) PeerUp(peer, incarnation uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up[peer]++
	r.peerInc[peer] = incarnation
	r.events = append(r.events, fmt.Sprintf("up %d", peer))
}

func (r *recorder) raftArrivals() []raftArrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.raft[:len(r.raft):len(r.raft)]
}

func (r *recorder) requestArrivals() []requestArrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests[:len(r.requests):len(r.requests)]
}

func (r *recorder) losses(peer uint64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost[peer]
}

func (r *recorder) arrivals(peer uint64) (times int, incarnation uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.up[peer], r.peerInc[peer]
}

// logBuffer keeps log lines.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// lines returns the lines that contain every one of parts.
func (l *logBuffer) lines(parts ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
next:
	for _, line := range strings.Split(l.text.String(), "\n") {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue next
			}
		}
		found = append(found, line)
	}
	return found
}
