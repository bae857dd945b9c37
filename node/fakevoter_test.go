package node_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/transport"
)

// fakeVoter is a member played by the test: it votes for whoever asks, and has no log but a
// position. Until it follows, it has none: it refuses appends, and takes nothing but a snapshot.
type fakeVoter struct {
	*transport.Transport
	id uint64
	// decide answers every snapshot that is offered, counted from 1; nil refuses them.
	decide func(v *fakeVoter, attempt int, index uint64) error
	mu     struct {
		sync.Mutex
		last     uint64 // 0 = it does not follow
		attempts int    // snapshots offered
	}
}

// besideVoters opens node 1 as the leader of three; node 2 follows it and node 3, which is
// returned, does not. decide is called for every snapshot that node 3 is offered.
func besideVoters(t *testing.T, decide func(three *fakeVoter, attempt int, index uint64) error) (
	g *node.Group, three *fakeVoter) {
	t.Helper()
	listeners := []net.Listener{listen(t), listen(t), listen(t)}
	o := node.Options{ClusterID: "test", ID: 1, Dir: t.TempDir(), PeerListener: listeners[0],
		Tick: 10 * time.Millisecond, SyncTimeout: waitMax, SegmentBytes: 1 << 20, SnapshotEntries: 5,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for i, l := range listeners {
		o.Members = append(o.Members,
			node.Member{ID: uint64(i + 1), Address: l.Addr().String()})
	}
	var voters []*fakeVoter
	for i, l := range listeners[1:] {
		v := &fakeVoter{id: uint64(i + 2)}
		var err error
		v.Transport, err = transport.New(transport.Options{ClusterID: "test", NodeID: v.id,
			Incarnation: v.id, Address: l.Addr().String(), Listener: l, Handler: v,
			Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		v.SetPeer(1, o.Members[0].Address)
		voters = append(voters, v)
	}
	voters[0].follow(1)
	voters[1].decide = decide
	n := openNode(t, o)
	for _, v := range voters {
		v.Start()
		t.Cleanup(func() { v.Close() })
	}
	g, err := n.StartGroup(1, &scripted{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "node 1 leads", func() bool { return g.Status().Role == "leader" })
	return g, voters[1]
}

// follow makes the voter one that has everything up to index.
func (v *fakeVoter) follow(index uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.last = max(v.mu.last, index)
}

func (v *fakeVoter) position() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.last
}

func (v *fakeVoter) attempts() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.attempts
}

func (v *fakeVoter) HandleRaft(_, group uint64, messages []*pb.Message) {
	for _, m := range messages {
		answer := &pb.Message{From: &v.id, To: new(uint64(1)), Term: new(m.GetTerm())}
		switch m.GetType() {
		case pb.MsgPreVote:
			answer.Type = pb.MsgPreVoteResp.Enum()
		case pb.MsgVote:
			answer.Type = pb.MsgVoteResp.Enum()
		case pb.MsgHeartbeat:
			answer.Type, answer.Context = pb.MsgHeartbeatResp.Enum(), m.GetContext()
		case pb.MsgApp:
			v.answerAppend(m, answer)
		default:
			continue
		}
		v.SendRaft(1, group, []*pb.Message{answer})
	}
}

func (v *fakeVoter) answerAppend(m, answer *pb.Message) {
	v.mu.Lock()
	defer v.mu.Unlock()
	answer.Type = pb.MsgAppResp.Enum()
	if m.GetIndex() > v.mu.last || v.mu.last == 0 {
		answer.Reject, answer.Index = new(true), new(m.GetIndex())
		answer.RejectHint = new(v.mu.last)
		return
	}
	v.mu.last = max(v.mu.last, m.GetIndex()+uint64(len(m.GetEntries())))
	answer.Index = new(v.mu.last)
}

func (v *fakeVoter) HandleRequest(from, group uint64, kind transport.Kind, _ []byte) {
	if kind == 5 { // how far are you? Not at all.
		_ = v.Send(from, group, 6, make([]byte, 16))
	}
}

func (v *fakeVoter) HandleSnapshot(_ context.Context, _, group uint64, m *pb.Message, _ int64,
	body io.Reader) error {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return err
	}
	index := m.GetSnapshot().GetMetadata().GetIndex()
	v.mu.Lock()
	v.mu.attempts++
	attempt := v.mu.attempts
	v.mu.Unlock()
	if v.decide == nil {
		return io.ErrClosedPipe
	}
	if err := v.decide(v, attempt, index); err != nil {
		return err
	}
	v.SendRaft(1, group, []*pb.Message{{Type: pb.MsgAppResp.Enum(), From: &v.id,
		To: new(uint64(1)), Term: new(m.GetTerm()), Index: &index}})
	return nil
}

func (v *fakeVoter) PeerLost(uint64)       {}
func (v *fakeVoter) PeerUp(uint64, uint64) {}
