package server_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/connectraft/connect/client"
	"github.com/connectraft/connect/internal/wire"
	"github.com/connectraft/connect/server"
	"github.com/connectraft/connect/statemachine"
)

// groupsService has a counter for each group.
func groupsService() server.Service {
	return server.RESPGroups(
		func(uint64) (statemachine.StateMachine[server.Command, any], error) {
			return new(counter), nil
		},
		server.Write("incr", 1), server.Read("get", 1))
}

// createGroup creates a group and waits until it answers.
func createGroup(t *testing.T, s *server.Server, c *client.Client, id uint64) *client.Group {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	if err := s.CreateGroup(ctx, id); err != nil {
		t.Fatal(err)
	}
	g := c.Group(id)
	if _, err := g.Read(t.Context(), client.Command("get"), client.Linearizable); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestServiceOfOneMachineHasOneGroup(t *testing.T) {
	if err := counterService().MachineFor(1); err != nil {
		t.Error(err)
	}
	if err := counterService().MachineFor(2); err == nil {
		t.Error("a second group got the machine of the first")
	}
}

// TestSelectChoosesTheGroup counts in two groups over one connection, without waiting in between.
func TestSelectChoosesTheGroup(t *testing.T) {
	s, cfg := open(t, groupsService, "")
	createGroup(t, s, openClient(t, cfg.Self().Client), 2)
	c := dial(t, cfg)
	c.expect("incr\r\nselect 2\r\nget\r\nincr\r\nincr\r\nget\r\nselect 3\r\nget\r\n"+
		"select 1\r\nget\r\nselect 0\r\nincr\r\n",
		":1", "+OK", ":0", ":1", ":2", ":2",
		"-NOGROUP group 3 does not run on this node; not applied", ":2", "+OK", ":1", "+OK", ":2")
	dial(t, cfg).expect("get\r\n", ":2") // another connection begins with the first group
}

func TestClientChoosesTheGroup(t *testing.T) {
	s, cfg := open(t, groupsService, "")
	c := openClient(t, cfg.Self().Client)
	second := createGroup(t, s, c, 2)
	for range 3 {
		if _, err := second.Write(t.Context(), client.Command("incr")); err != nil {
			t.Fatal(err)
		}
	}
	for want, read := range map[string]func() (client.Result, error){
		":0\r\n": func() (client.Result, error) { return c.Read(t.Context(), client.Command("get")) },
		":3\r\n": func() (client.Result, error) {
			return second.Read(t.Context(), client.Command("get"), client.Lease)
		},
	} {
		if r, err := read(); err != nil || string(r.Answer) != want {
			t.Errorf("%q, %v, want %q", r.Answer, err, want)
		}
	}
	raw := frames(t, cfg.Self().Client)
	reply := raw.do(wire.Frame{Kind: wire.Write, Request: wire.Request{Group: 99},
		Payload: client.Command("incr")})
	if reply.Status != wire.NoGroup {
		t.Errorf("a group that is nowhere: %v %q", reply.Status, reply.Payload)
	}
}

// TestReadLevels reads one's own write at every level.
func TestReadLevels(t *testing.T) {
	_, cfg := open(t, counterService, "")
	c := openClient(t, cfg.Self().Client)
	g := c.Group(1)
	for i := range 20 {
		written, err := g.Write(t.Context(), client.Command("incr"))
		if err != nil {
			t.Fatal(err)
		}
		for name, level := range map[string]client.ReadLevel{"linearizable": client.Linearizable,
			"lease": client.Lease, "at least": client.AtLeast(written.Index),
			"stale": client.Stale(time.Nanosecond)} {
			r, err := g.Read(t.Context(), client.Command("get"), level)
			if want := fmt.Sprintf(":%d\r\n", i+1); err != nil || string(r.Answer) != want ||
				r.Index < written.Index {
				t.Errorf("%s: %q at %d, %v, want %q at %d or later", name, r.Answer, r.Index, err,
					want, written.Index)
			}
		}
		if _, err := g.Read(t.Context(), client.Command("get"), client.Stale(0)); err != nil {
			t.Error(err)
		}
	}
}

// TestAReadThatWaitsHoldsNothingUp reads at an index that is not there yet; what is sent behind it
// on the same connection is answered before.
func TestAReadThatWaitsHoldsNothingUp(t *testing.T) {
	_, cfg := open(t, counterService, "")
	raw := frames(t, cfg.Self().Client)
	first := raw.do(wire.Frame{Kind: wire.Write, Payload: client.Command("incr")})
	raw.send(wire.Frame{ID: 500, Kind: wire.Read, Payload: client.Command("get"),
		Request: wire.Request{Level: wire.AtLeast, Bound: first.Index + 2}})
	for kind, payload := range map[wire.Kind][]byte{wire.Read: client.Command("get"),
		wire.Write: client.Command("incr")} {
		if reply := raw.do(wire.Frame{Kind: kind, Payload: payload}); reply.Status != wire.OK {
			t.Fatalf("%v %q", reply.Status, reply.Payload)
		}
	}
	raw.send(wire.Frame{ID: 501, Kind: wire.Write, Payload: client.Command("incr")})
	answers := map[uint64]string{}
	for len(answers) < 2 {
		f := raw.receive()
		answers[f.ID] = string(f.Payload)
	}
	if answers[500] != ":3\r\n" || answers[501] != ":3\r\n" {
		t.Errorf("answers %v", answers)
	}
}

// TestSessionsOverTheWire repeats frames as a client does that has lost their replies.
func TestSessionsOverTheWire(t *testing.T) {
	_, cfg := open(t, counterService, "")
	raw := frames(t, cfg.Self().Client)
	opened := raw.do(wire.Frame{Kind: wire.OpenSession})
	session, ok := wire.ParseSession(opened.Payload)
	if opened.Status != wire.OK || !ok {
		t.Fatalf("open session: %v %q", opened.Status, opened.Payload)
	}
	write := func(sequence, acked uint64) wire.Frame {
		return raw.do(wire.Frame{Kind: wire.Write, Payload: client.Command("incr"),
			Request: wire.Request{Session: session, Sequence: sequence, Acked: acked}})
	}
	for _, step := range []struct {
		sequence, acked uint64
		want            string
		status          wire.Status
	}{
		{1, 0, ":1", wire.OK}, {1, 0, ":1", wire.OK}, {3, 0, ":2", wire.OK}, {2, 0, ":3", wire.OK},
		{3, 1, ":2", wire.OK}, {1, 1, "SEQUENCETOOOLD", wire.SequenceTooOld},
		{9999, 1, "SESSIONFULL", wire.SessionFull}, {4, 3, ":4", wire.OK},
	} {
		f := write(step.sequence, step.acked)
		if f.Status != step.status || !strings.HasPrefix(string(f.Payload), step.want) {
			t.Errorf("%+v: %v %q", step, f.Status, f.Payload)
		}
	}
	if f := raw.do(wire.Frame{Kind: wire.CloseSession,
		Request: wire.Request{Session: session}}); f.Status != wire.OK {
		t.Errorf("close session: %v %q", f.Status, f.Payload)
	}
	if f := write(5, 4); f.Status != wire.SessionExpired {
		t.Errorf("a write after the end of the session: %v %q", f.Status, f.Payload)
	}
	dial(t, cfg).expect("get\r\n", ":4")
}

// TestSessionIsExactlyOnceThroughBrokenConnections has a proxy break every connection after a
// while, in the middle of what goes over it: each write of a session counts once.
func TestSessionIsExactlyOnceThroughBrokenConnections(t *testing.T) {
	_, cfg := open(t, counterService, "")
	c := openClient(t, breaking(t, cfg.Self().Client, 600))
	s, err := c.OpenSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	increments(t, 8, 50, s.Do)
	dial(t, cfg).expect("get\r\n", ":400")
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := s.Do(t.Context(), client.Command("incr")); !errors.Is(err, client.ErrSessionExpired) {
		t.Errorf("a write after Close: %v", err)
	}
}
