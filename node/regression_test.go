package node_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/porttest"
	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/snap"
	"github.com/connectraft/connect/statemachine"
	"github.com/connectraft/connect/transport"
)

// scripted is a state machine whose methods do what the test says.
type scripted struct {
	apply func(command []byte) ([]byte, error)
	query func(query []byte) ([]byte, error)
}

func (s *scripted) Apply(_ statemachine.Meta, command []byte) ([]byte, error) {
	if s.apply == nil {
		return nil, nil
	}
	return s.apply(command)
}

func (s *scripted) Query(query []byte) ([]byte, error) {
	if s.query == nil {
		return nil, nil
	}
	return s.query(query)
}

func (s *scripted) Snapshot(w io.Writer) error { _, err := w.Write([]byte("state")); return err }
func (s *scripted) Restore(r io.Reader) error  { _, err := io.Copy(io.Discard, r); return err }

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

// listen listens at an address that nobody takes when the listener is closed.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", porttest.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	return l
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
	n, err := node.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		showOnFailure(t, map[uint64]*node.Node{1: n})
		n.Close()
	})
	p := &fakePeer{frames: make(chan frame, 16), up: make(chan struct{}, 1), options: o}
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
	case <-time.After(20 * time.Second):
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

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	(&testCluster{t: t}).within(what, condition)
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

// ended fails the test when the call does not end; the outcome does not matter.
func ended(t *testing.T, what string, call *node.Call) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := call.Wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Errorf("%s never ended: %v", what, err)
	}
}

// A read that breaks the machine is ended once: Close returns although nobody waits for the read.
func TestBrokenQueryEndsItsReadOnce(t *testing.T) {
	for _, how := range []string{"error", "panic"} {
		t.Run(how, func(t *testing.T) {
			c := newTestCluster(t, 1, nil)
			c.ready()
			g, err := c.nodes[1].StartGroup(2, &scripted{query: func([]byte) ([]byte, error) {
				if how == "panic" {
					panic("as asked")
				}
				return nil, errors.New("broken")
			}})
			if err != nil {
				t.Fatal(err)
			}
			call := g.GoRead(nil, node.Stale(0))
			c.within("the group stops", func() bool { return g.Status().Failed != "" })
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				c.nodes[1].Close()
			}()
			select {
			case <-closed:
			case <-time.After(5 * time.Second):
				t.Error("Close hangs: the apply stage waits to end a read for the second time")
			}
			ended(t, "the read", call)
			<-closed // a second end got its room by the Wait above
			if n := g.Status().Inflight; n != 0 {
				t.Errorf("%d calls in flight after all have ended", n)
			}
		})
	}
}

// Mistake 12: deleting a received snapshot while it waits to be applied (etcd issues 18055, 20133). A
// follower that has marked its log with a leader's snapshot and has not restored it yet applies
// what came before. A snapshot of its own that is due then must not stop the group.
func TestMistake12SnapshotRemovedWhileItWaits(t *testing.T) {
	release := map[string]chan struct{}{"a": make(chan struct{}), "b": make(chan struct{})}
	n, p := besideFakeLeader(t, func(o *node.Options) { o.SnapshotEntries = 1 })
	g, err := n.StartGroup(1, &scripted{apply: func(command []byte) ([]byte, error) {
		<-release[string(command)]
		return nil, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.lead(t, g)
	p.SendRaft(1, 1, []*pb.Message{{Type: pb.MsgApp.Enum(), From: new(uint64(2)),
		To: new(uint64(1)), Term: new(uint64(2)), LogTerm: new(uint64(1)), Index: new(uint64(1)),
		Entries: []*pb.Entry{packed(2, "a")}, Commit: new(uint64(2))}})
	eventually(t, "entry 2 is committed", func() bool { return g.Status().Commit == 2 })
	p.SendRaft(1, 1, []*pb.Message{{Type: pb.MsgApp.Enum(), From: new(uint64(2)),
		To: new(uint64(1)), Term: new(uint64(2)), LogTerm: new(uint64(2)), Index: new(uint64(2)),
		Entries: []*pb.Entry{packed(3, "b")}, Commit: new(uint64(3))}})
	eventually(t, "entry 3 is committed", func() bool { return g.Status().Commit == 3 })

	store, err := snap.Open(filepath.Join(t.TempDir(), "snap"), snap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	conf := &pb.ConfState{Voters: []uint64{1, 2, 3}}
	w, err := store.Create(snap.Meta{Group: 1, Index: 100, Term: 2, ConfState: conf})
	if err != nil {
		t.Fatal(err)
	}
	if err := apply.New(&scripted{}).Snapshot(w); err != nil {
		t.Fatal(err)
	}
	m, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	data, err := m.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := store.OpenFile(1, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	err = p.SendSnapshot(background(t), 1, 1, &pb.Message{Type: pb.MsgSnap.Enum(),
		From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(2)),
		Snapshot: &pb.Snapshot{Data: data, Metadata: &pb.SnapshotMetadata{Index: new(uint64(100)),
			Term: new(uint64(2)), ConfState: conf}}}, m.Size, file)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log is marked", func() bool { return g.Status().FirstIndex == 101 })
	close(release["a"])
	eventually(t, "its own snapshot is there", func() bool { return g.Status().SnapshotIndex == 2 })
	close(release["b"])
	eventually(t, "the snapshot is restored or the group has stopped", func() bool {
		s := g.Status()
		return s.Applied == 100 || s.Failed != ""
	})
	if s := g.Status(); s.Failed != "" {
		t.Errorf("the group stopped: %s", s.Failed)
	}
}

// A command that the leader hands back to a group that has stopped meanwhile ends all the same.
func TestCommandHandedBackToAStoppedGroupEnds(t *testing.T) {
	n, p := besideFakeLeader(t, nil)
	g, err := n.StartGroup(1, &scripted{apply: func([]byte) ([]byte, error) {
		return nil, errors.New("broken")
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.lead(t, g)
	call := g.Go([]byte("x"))
	var forward frame
	select {
	case forward = <-p.frames:
	case <-time.After(20 * time.Second):
		t.Fatal("the command was not forwarded")
	}
	p.SendRaft(1, 1, []*pb.Message{{Type: pb.MsgApp.Enum(), From: new(uint64(2)),
		To: new(uint64(1)), Term: new(uint64(2)), LogTerm: new(uint64(1)), Index: new(uint64(1)),
		Entries: []*pb.Entry{packed(2, "a")}, Commit: new(uint64(2))}})
	eventually(t, "the group stops", func() bool { return g.Status().Failed != "" })
	reply := append([]byte(nil), forward.payload[:8]...) // id
	reply = append(reply, 1, 1, 0, 0)                    // one command, not leader, no index, no text
	if err := p.Send(1, 1, 2, reply); err != nil {
		t.Fatal(err)
	}
	ended(t, "the command", call)
}

// Commands forwarded to a node that does not run the group (yet) are answered: the asker cannot
// know otherwise, for the connection stays.
func TestForwardToAGroupThatDoesNotRunIsAnswered(t *testing.T) {
	_, p := besideFakeLeader(t, nil)
	payload := binary.LittleEndian.AppendUint64(nil, 42)
	payload = replica.AppendCommand(append(payload, 1), replica.Command{Data: []byte("x")})
	if err := p.Send(1, 1, 1, payload); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.frames:
	case <-time.After(5 * time.Second):
		t.Error("no reply: the asker's call and its place in the admission are lost")
	}
}

// A reply that the transport refuses (here: larger than a frame) must not leave the asker waiting
// for ever.
func TestForwardedCommandEndsWhenItsReplyCannotBeSent(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	groups := map[uint64]*node.Group{}
	for id, n := range c.nodes {
		g, err := n.StartGroup(2, &scripted{apply: func([]byte) ([]byte, error) {
			return make([]byte, 65<<20), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		groups[id] = g
	}
	c.groups = groups
	c.ready()
	call := groups[c.follower()].Go([]byte("x"))
	ended(t, "the command", call)
}

// next returns the next request frame that node 1 sends.
func (p *fakePeer) next(t *testing.T) frame {
	t.Helper()
	select {
	case f := <-p.frames:
		return f
	case <-time.After(20 * time.Second):
		t.Fatal("node 1 sends no frame")
		return frame{}
	}
}

// A reply to a command that an earlier life of this node has forwarded must not end a command of
// this life: it may not be in the log at all.
func TestReplyToAnEarlierLifeEndsNothing(t *testing.T) {
	n, p := besideFakeLeader(t, nil)
	g, err := n.StartGroup(1, &scripted{})
	if err != nil {
		t.Fatal(err)
	}
	p.lead(t, g)
	g.Go([]byte("first"))
	old := p.next(t)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	p.options.PeerListener = nil
	if n, err = node.Open(p.options); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if g, err = n.StartGroup(1, &scripted{}); err != nil {
		t.Fatal(err)
	}
	p.lead(t, g)
	call := g.Go([]byte("second"))
	p.next(t)
	reply := append([]byte(nil), old.payload[:8]...)
	reply = append(reply, 1, 0, 9, 5) // one command, applied, index 9, 5 bytes
	if err := p.Send(1, 1, 2, append(reply, "first"...)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if r, err := call.Wait(ctx); err == nil {
		t.Errorf("the second command was acknowledged with the answer of the first: index %d, %q",
			r.Index, r.Answer)
	}
}

// Calls that are in the inbox when the event loop panics end all the same.
func TestCallsOfATurnThatPanicsEnd(t *testing.T) {
	n, p := besideFakeLeader(t, nil)
	g, err := n.StartGroup(1, &scripted{})
	if err != nil {
		t.Fatal(err)
	}
	p.lead(t, g)
	var calls []*node.Call
	for i := 0; g.Status().Failed == "" && i < 1_000_000; i++ {
		if i == 500 {
			node.PanicInLoop(g)
		}
		calls = append(calls, g.GoRead(nil, node.Linearizable))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	open := 0
	for _, call := range calls {
		if _, err := call.Wait(ctx); errors.Is(err, context.DeadlineExceeded) {
			open++
		}
	}
	if open > 0 {
		t.Errorf("%d of %d reads never ended", open, len(calls))
	}
}
