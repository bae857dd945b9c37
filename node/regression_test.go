package node_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/porttest"
	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/snap"
	"github.com/connectraft/connect/statemachine"
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

// listen listens at an address that nobody takes when the listener is closed.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", porttest.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// ended fails the test when the call does not end; the outcome does not matter.
func ended(t *testing.T, what string, call *node.Call) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
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
			case <-time.After(waitMax):
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
	applies := make(chan struct{}, len(release))
	n, p := besideFakeLeader(t, func(o *node.Options) { o.SnapshotEntries = 1 })
	g, err := n.StartGroup(1, &scripted{apply: func(command []byte) ([]byte, error) {
		applies <- struct{}{}
		<-release[string(command)]
		return nil, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.lead(t, g)
	p.SendRaft(1, 1, []*pb.Message{appendOf(2, 1, "a")})
	// Alone: a snapshot comes behind what was handed out together.
	eventually(t, "entry 2 is being applied", func() bool { return len(applies) == 1 })
	p.SendRaft(1, 1, []*pb.Message{appendOf(3, 2, "b")})
	// Committed is not enough: what is not durable here is not handed out to be applied, and the
	// leader's snapshot would take its place.
	eventually(t, "entry 3 is committed and durable", func() bool {
		return g.Status().Commit == 3 && p.heard(pb.MsgAppResp) >= 2
	})

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
	forward := p.next(t)
	p.SendRaft(1, 1, []*pb.Message{appendOf(2, 1, "a")})
	eventually(t, "the group stops", func() bool { return g.Status().Failed != "" })
	p.answer(t, forward, codeNotLeader, "")
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
	p.next(t) // else the asker's call and its place in the admission are lost
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

// A reply to a command that an earlier life of this node has forwarded must not end a command of
// this life: it may not be in the log at all.
func TestReplyToAnEarlierLifeEndsNothing(t *testing.T) {
	n, g, p := underFakeLeader(t)
	g.Go([]byte("first"))
	old := p.next(t)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	p.options.PeerListener = nil
	n = openNode(t, p.options)
	g, err := n.StartGroup(1, &scripted{})
	if err != nil {
		t.Fatal(err)
	}
	p.lead(t, g)
	call := g.Go([]byte("second"))
	p.next(t)
	p.answer(t, old, codeApplied, "first")
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if r, err := call.Wait(ctx); err == nil {
		t.Errorf("the second command was acknowledged with the answer of the first: index %d, %q",
			r.Index, r.Answer)
	}
}

// Calls that are in the inbox when the event loop panics end all the same.
func TestCallsOfATurnThatPanicsEnd(t *testing.T) {
	_, g, _ := underFakeLeader(t)
	var calls []*node.Call
	for i := 0; g.Status().Failed == "" && i < 1_000_000; i++ {
		if i == 500 {
			node.PanicInLoop(g)
		}
		calls = append(calls, g.GoRead(nil, node.Linearizable))
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
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
