package node_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/transport"
)

// frame is a request frame that the fake peer has received.
type frame struct {
	kind    transport.Kind
	payload []byte
}

// fakePeer is node 2 of a cluster, played by the test over the real transport.
type fakePeer struct {
	*transport.Transport
	frames  chan frame
	up      chan struct{}
	options node.Options // of node 1
	mu      struct {
		sync.Mutex
		heard map[pb.MessageType]int // raft messages of node 1
	}
}

func (p *fakePeer) HandleRaft(_, _ uint64, messages []*pb.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.heard == nil {
		p.mu.heard = map[pb.MessageType]int{}
	}
	for _, m := range messages {
		p.mu.heard[m.GetType()]++
	}
}

// heard returns how many messages of a type node 1 has sent.
func (p *fakePeer) heard(kind pb.MessageType) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.heard[kind]
}

// heartbeat sends one as the leader of term 2.
func (p *fakePeer) heartbeat() {
	p.SendRaft(1, 1, []*pb.Message{{Type: pb.MsgHeartbeat.Enum(), From: new(uint64(2)),
		To: new(uint64(1)), Term: new(uint64(2)), Commit: new(uint64(1))}})
}

func (p *fakePeer) HandleRequest(from, group uint64, kind transport.Kind, payload []byte) {
	if kind == 5 { // how far are you? Not at all.
		_ = p.Send(from, group, 6, make([]byte, 16))
		return
	}
	if kind == 11 { // a sign of life
		return
	}
	select {
	case p.frames <- frame{kind, payload}:
	default:
	}
}

func (p *fakePeer) HandleSnapshot(context.Context, uint64, uint64, *pb.Message, int64,
	io.Reader) error {
	return errors.New("not wanted")
}

func (p *fakePeer) PeerLost(uint64) {}
func (p *fakePeer) PeerUp(uint64, uint64) {
	select {
	case p.up <- struct{}{}:
	default:
	}
}

// besideFakeLeader opens node 1 of two, which does not campaign by itself, and node 2 as a fake.
func besideFakeLeader(t *testing.T, change func(*node.Options)) (*node.Node, *fakePeer) {
	t.Helper()
	own, other := listen(t), listen(t)
	o := node.Options{ClusterID: "test", ID: 1, Dir: t.TempDir(), PeerListener: own,
		Tick: 10 * time.Millisecond, ElectionTicks: 10_000, SegmentBytes: 1 << 20,
		Members: []node.Member{{ID: 1, Address: own.Addr().String()},
			{ID: 2, Address: other.Addr().String()}},
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&o)
	}
	n := openNode(t, o)
	p := &fakePeer{frames: make(chan frame, 16), up: make(chan struct{}, 1), options: o}
	var err error
	p.Transport, err = transport.New(transport.Options{ClusterID: "test", NodeID: 2,
		Incarnation: 7, Address: other.Addr().String(), Listener: other, Handler: p,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p.SetPeer(1, own.Addr().String())
	p.Start()
	t.Cleanup(func() { p.Close() })
	select {
	case <-p.up:
	case <-time.After(waitMax):
		t.Fatal("the fake peer does not get a connection")
	}
	eventually(t, "node 1 gets a connection", func() bool {
		for _, s := range n.Peers() {
			if s.ID == 2 && s.Connected {
				return true
			}
		}
		return false
	})
	return n, p
}

// underFakeLeader opens node 1 beside the fake and starts its first group, which the fake leads.
func underFakeLeader(t *testing.T) (*node.Node, *node.Group, *fakePeer) {
	t.Helper()
	n, p := besideFakeLeader(t, nil)
	g, err := n.StartGroup(1, &scripted{})
	if err != nil {
		t.Fatal(err)
	}
	p.lead(t, g)
	return n, g, p
}

// lead makes node 1 take the fake for the leader of term 2.
func (p *fakePeer) lead(t *testing.T, g *node.Group) {
	t.Helper()
	eventually(t, "node 1 follows the fake", func() bool {
		if s := g.Status(); s.Leader == 2 || s.Failed != "" {
			return true
		}
		p.heartbeat()
		return g.Status().Leader == 2
	})
}

// packed is an entry with one command, as internal/replica packs it.
func packed(index uint64, command string) *pb.Entry {
	data := append([]byte{2}, make([]byte, 8)...)
	data = binary.LittleEndian.AppendUint32(data, 1)
	data = replica.AppendCommand(data, replica.Command{Data: []byte(command)})
	return &pb.Entry{Index: &index, Term: new(uint64(2)), Type: pb.EntryNormal.Enum(), Data: data}
}

// appendOf is an append of one entry in term 2, with one command, that is committed with it; before
// it stands an entry of priorTerm.
func appendOf(index, priorTerm uint64, command string) *pb.Message {
	return &pb.Message{Type: pb.MsgApp.Enum(), From: new(uint64(2)), To: new(uint64(1)),
		Term: new(uint64(2)), LogTerm: &priorTerm, Index: new(index - 1),
		Entries: []*pb.Entry{packed(index, command)}, Commit: &index}
}

// next returns the next request frame that node 1 sends.
func (p *fakePeer) next(t *testing.T) frame {
	t.Helper()
	select {
	case f := <-p.frames:
		return f
	case <-time.After(waitMax):
		t.Fatal("node 1 sends no frame")
		return frame{}
	}
}

// forwarded reads the only command of a forward frame.
func forwarded(t *testing.T, f frame) replica.Command {
	t.Helper()
	c, rest, err := replica.ParseCommand(f.payload[9:]) // behind id and number of commands
	if err != nil || len(rest) != 0 || f.payload[8] != 1 {
		t.Fatalf("not one forwarded command: %x", f.payload)
	}
	return c
}

// answer replies to a forward frame of one command.
func (p *fakePeer) answer(t *testing.T, f frame, outcome byte, text string) {
	t.Helper()
	reply := append(bytes.Clone(f.payload[:8]), 1, outcome, 9, byte(len(text)))
	if err := p.Send(1, 1, 2, append(reply, text...)); err != nil {
		t.Fatal(err)
	}
}

// The outcomes of a command in a reply.
const (
	codeApplied   = 0
	codeNotLeader = 1
	codeUnknown   = 2
	codeExpired   = 10
	codeFull      = 12
)
