package node_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/node"
)

func openSession(t *testing.T, g *node.Group) *node.Session {
	t.Helper()
	s, err := g.OpenSession(background(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCommandOfUnknownFateIsSentAgainUnderItsSequence(t *testing.T) {
	_, g, p := underFakeLeader(t)
	call := g.GoSession(5, 3, 2, []byte("x"))
	want := replica.Command{Session: 5, Sequence: 3, Acked: 2, Data: []byte("x")}
	for range 3 {
		f := p.next(t)
		if got := forwarded(t, f); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("forwarded %+v, want %+v", got, want)
		}
		p.answer(t, f, codeUnknown, "for some reason")
	}
	p.answer(t, p.next(t), codeApplied, "done")
	r, err := call.Wait(background(t))
	if err != nil || string(r.Answer) != "done" || r.Index != 9 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A refusal of one submission says nothing about an earlier one whose fate is not known.
func TestRefusalAfterAnUnknownSubmissionIsUnknown(t *testing.T) {
	_, g, p := underFakeLeader(t)
	sure := g.GoSession(5, 3, 2, []byte("x"))
	p.answer(t, p.next(t), codeExpired, "")
	_, err := sure.Wait(background(t))
	if !errors.Is(err, node.ErrSessionExpired) || node.OutcomeOf(err) != node.NotApplied {
		t.Errorf("refused at once: %v", err)
	}
	unsure := g.GoSession(5, 4, 2, []byte("y"))
	p.answer(t, p.next(t), codeUnknown, "")
	p.answer(t, p.next(t), codeExpired, "")
	_, err = unsure.Wait(background(t))
	if !errors.Is(err, node.ErrSessionExpired) || node.OutcomeOf(err) != node.Unknown {
		t.Errorf("refused after an unknown submission: %v", err)
	}
}

// A full session takes nothing before answers are acknowledged, and only the one who counts its
// sequences can do that.
func TestFullSessionIsLeftToItsCounter(t *testing.T) {
	_, g, p := underFakeLeader(t)
	call := g.GoSession(5, 3, 1, []byte("x"))
	p.answer(t, p.next(t), codeUnknown, "")
	p.answer(t, p.next(t), codeFull, "")
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	_, err := call.Wait(ctx)
	if !errors.Is(err, node.ErrSessionFull) || node.OutcomeOf(err) != node.Unknown {
		t.Errorf("full after an unknown submission: %v", err)
	}
}

// Whoever waits for a command decides how long it is sent again.
func TestCommandIsNotSentAgainWhenItsWaiterHasLeft(t *testing.T) {
	_, g, p := underFakeLeader(t)
	call := g.GoSession(5, 1, 0, []byte("x"))
	first := p.next(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := call.Wait(ctx); node.OutcomeOf(err) != node.Unknown {
		t.Errorf("left while it was sent: %v", err)
	}
	p.answer(t, first, codeUnknown, "")
	eventually(t, "the command gives its room back", func() bool {
		return g.Status().Inflight == 0
	})
	g.GoSession(5, 2, 0, []byte("y"))
	if got := forwarded(t, p.next(t)); got.Sequence != 2 {
		t.Errorf("sent again: %+v", got)
	}
}

// A session that is full of answers which have arrived says so, and goes on.
func TestFullSessionAcknowledgesAndGoesOn(t *testing.T) {
	_, g, p := underFakeLeader(t)
	opened := make(chan *node.Session)
	go func() {
		s, _ := g.OpenSession(context.Background())
		opened <- s
	}()
	f := p.next(t)
	if c := forwarded(t, f); !c.System {
		t.Fatalf("opened by %+v", c)
	}
	p.answer(t, f, codeApplied, "\x07")
	s := <-opened
	if s.ID() != 7 {
		t.Fatalf("session %d", s.ID())
	}
	one := s.Go(background(t), []byte("1"))
	f1 := p.next(t)
	two := s.Go(background(t), []byte("2"))
	f2 := p.next(t)
	if c := forwarded(t, f2); c.Sequence != 2 || c.Acked != 0 {
		t.Fatalf("the second command: %+v", c)
	}
	p.answer(t, f1, codeApplied, "one")
	if _, err := one.Wait(background(t)); err != nil {
		t.Fatal(err)
	}
	p.answer(t, f2, codeFull, "")
	f2 = p.next(t)
	if c := forwarded(t, f2); c.Sequence != 2 || c.Acked != 1 {
		t.Errorf("after the acknowledgement: %+v", c)
	}
	p.answer(t, f2, codeApplied, "two")
	if r, err := two.Wait(background(t)); err != nil || string(r.Answer) != "two" {
		t.Errorf("the second command: %q, %v", r.Answer, err)
	}
}

// relayedCluster is three nodes that reach each other through links which the test can break.
func relayedCluster(t *testing.T) (*testCluster, []*link) {
	t.Helper()
	var links []*link
	c := newTestCluster(t, 0, func(o *node.Options) {
		for id := range uint64(3) {
			l := newLink(t)
			links = append(links, l)
			o.Members = append(o.Members, node.Member{ID: id + 1, Address: l.Addr().String()})
		}
	})
	for id := range uint64(3) {
		c.startBehind(links[id], id+1)
	}
	c.ready()
	return c, links
}

func (c *testCluster) startBehind(l *link, id uint64) {
	c.t.Helper()
	own := c.options
	c.options.PeerListener = listen(c.t)
	l.target.Store(new(c.options.PeerListener.Addr().String()))
	c.start(id)
	c.options = own
}

// The connections of all nodes break again and again while commands and their answers are on their
// way, and the leader is stopped and comes back. Outside a session the outcome of many of these
// commands would not be known; in one each is applied, and once.
func TestSessionAppliesOnceThroughLeaderChanges(t *testing.T) {
	c, links := relayedCluster(t)
	own := c.follower()
	s := openSession(t, c.groups[own])
	const commands = 6000 // more than the window
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	calls := make(chan *node.Call, commands)
	var failed sync.Once
	var ended atomic.Int64
	var ends sync.WaitGroup
	ends.Go(func() {
		for call := range calls {
			if _, err := call.Wait(ctx); err != nil {
				failed.Do(func() { t.Errorf("a command ended with: %v", err) })
			}
			ended.Add(1)
		}
	})
	for i := range int64(commands) {
		calls <- s.Go(ctx, number(1))
		if i%200 != 100 {
			continue
		}
		c.within("commands come through", func() bool { return ended.Load() > i-100 })
		for _, l := range links {
			l.cut()
		}
		if leader := c.leader(); i%1500 == 900 && leader != own {
			c.stop(leader)
			c.startBehind(links[leader-1], leader)
		}
	}
	close(calls)
	ends.Wait()
	c.ready()
	if got := c.agree(); got != commands {
		t.Errorf("applied %d commands, want %d", got, commands)
	}
	if err := s.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// Sessions are a part of snapshots: after a restart that has only those, a repeated command is
// answered and not applied.
func TestSessionSurvivesRestartsFromSnapshots(t *testing.T) {
	c := newTestCluster(t, 3, func(o *node.Options) { o.SnapshotEntries = 20 })
	c.ready()
	s := openSession(t, c.groups[1])
	repeated := func(id uint64) []byte {
		r, err := c.groups[id].GoSession(s.ID(), 1, 0, number(1000)).Wait(background(t))
		if err != nil {
			t.Fatalf("on node %d: %v", id, err)
		}
		return r.Answer
	}
	first := repeated(1)
	for range 100 {
		c.add(2, 1)
	}
	for id := range uint64(3) {
		g := c.groups[id+1]
		c.within("snapshots hold the session", func() bool { return g.Status().FirstIndex > 10 })
		c.stop(id + 1)
	}
	for id := range uint64(3) {
		c.start(id + 1)
	}
	c.ready()
	for id := range uint64(3) {
		if again := repeated(id + 1); !bytes.Equal(again, first) {
			t.Errorf("node %d answers %x, the first answer was %x", id+1, again, first)
		}
	}
	if got := c.agree(); got != 1100 {
		t.Errorf("total %d, want 1100", got)
	}
}

// The least recently used session makes room for a new one, and its owner is told what to do.
func TestExpiredSessionSaysSo(t *testing.T) {
	c := newTestCluster(t, 1, nil)
	c.ready()
	g := c.groups[1]
	old, used := openSession(t, g), openSession(t, g)
	var opened sync.WaitGroup
	for range 128 {
		opened.Go(func() {
			for range 32 {
				if _, err := used.Propose(background(t), number(0)); err != nil {
					t.Errorf("the session in use: %v", err)
				}
				if _, err := g.OpenSession(background(t)); err != nil {
					t.Errorf("open: %v", err)
				}
			}
		})
	}
	opened.Wait()
	_, err := old.Propose(background(t), number(1))
	if !errors.Is(err, node.ErrSessionExpired) || node.OutcomeOf(err) != node.NotApplied {
		t.Errorf("the oldest session: %v", err)
	}
	if _, err := used.Propose(background(t), number(1)); err != nil {
		t.Errorf("the session in use: %v", err)
	}
}

func TestClosedSessionTakesNothing(t *testing.T) {
	c := newTestCluster(t, 1, nil)
	c.ready()
	g := c.groups[1]
	s := openSession(t, g)
	if r, err := s.Propose(background(t), number(2)); err != nil || total(r.Answer) != 2 {
		t.Fatalf("%v, %v", r, err)
	}
	if err := s.Close(background(t)); err != nil {
		t.Fatal(err)
	}
	_, here := s.Propose(background(t), number(1))
	_, there := g.GoSession(s.ID(), 2, 1, number(1)).Wait(background(t))
	_, none := g.GoSession(0, 1, 0, number(1)).Wait(background(t))
	for what, err := range map[string]error{"its owner": here, "another": there, "no id": none} {
		if !errors.Is(err, node.ErrSessionExpired) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.Close(background(t)); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if got := c.agree(); got != 2 {
		t.Errorf("total %d, want 2", got)
	}
}

// The window blocks, and lets go when its oldest command ends.
func TestSessionWindowBlocks(t *testing.T) {
	block := make(chan struct{})
	s := openSession(t, newTestCluster(t, 1, nil).startGroup(2, held(block)))
	var calls []*node.Call
	for i := range uint64(1024) {
		calls = append(calls, s.Go(background(t), binary.LittleEndian.AppendUint64(nil, i)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Go(ctx, []byte("one more")).Wait(background(t))
	if !errors.Is(err, context.DeadlineExceeded) || node.OutcomeOf(err) != node.NotApplied {
		t.Errorf("beyond the window: %v", err)
	}
	close(block)
	for i, call := range calls {
		r, err := call.Wait(background(t))
		if err != nil || binary.LittleEndian.Uint64(r.Answer) != uint64(i) {
			t.Errorf("command %d: %x, %v", i, r.Answer, err)
		}
	}
	if _, err := s.Propose(background(t), []byte("one more")); err != nil {
		t.Errorf("when there is room: %v", err)
	}
}

// Who waits for the window of a session learns that it was closed, however many they are.
func TestClosedSessionLetsAllWaitersGo(t *testing.T) {
	block := make(chan struct{})
	s := openSession(t, newTestCluster(t, 1, nil).startGroup(2, held(block)))
	for range 1024 {
		s.Go(background(t), []byte("x"))
	}
	const waiters = 16
	var comes sync.WaitGroup
	comes.Add(waiters)
	ended := make(chan error, waiters)
	for range waiters {
		go func() {
			comes.Done()
			_, err := s.Go(background(t), []byte("one more")).Wait(background(t))
			ended <- err
		}()
	}
	comes.Wait()
	closed := make(chan error)
	go func() { closed <- s.Close(background(t)) }()
	for range waiters {
		if err := <-ended; !errors.Is(err, node.ErrSessionExpired) {
			t.Errorf("a waiter: %v", err)
		}
	}
	close(block)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
