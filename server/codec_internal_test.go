package server

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/connectraft/connect/internal/wire"
	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/statemachine"
)

func testCodec(t *testing.T) respCodec[any] {
	t.Helper()
	table, err := newCommandTable([]CommandSpec{Write("set", 3), Read("get", 2), Write("del", -2)})
	if err != nil {
		t.Fatal(err)
	}
	return respCodec[any]{commands: table}
}

func TestCommandsPassTheLogUnchanged(t *testing.T) {
	codec := testCodec(t)
	command := NewCommand("SET", "k", "")
	got, err := codec.ParseCommand(codec.AppendCommand(nil, command))
	if err != nil || got.Name() != "set" || got.Len() != 2 || got.Arg(0) != "k" || got.Arg(1) != "" {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestTheLogTakesDeclaredCommandsOnly(t *testing.T) {
	codec := testCodec(t)
	for _, name := range []string{"nope", "SET", ""} {
		payload := wire.AppendCommand(nil, name, [][]byte{{1}, {2}})
		if _, err := codec.ParseCommand(payload); err == nil {
			t.Errorf("%q was parsed", name)
		}
	}
	if _, err := codec.ParseCommand(wire.AppendCommand(nil, "set", nil)); err == nil {
		t.Error("a wrong number of arguments was parsed")
	}
}

func TestArity(t *testing.T) {
	for _, test := range []struct {
		arity, words int
		want         bool
	}{{1, 1, true}, {1, 2, false}, {2, 1, false}, {-2, 1, false}, {-2, 2, true}, {-2, 9, true}} {
		spec := Write("x", test.arity)
		if got := spec.accepts(test.words); got != test.want {
			t.Errorf("arity %d, %d words: got %v", test.arity, test.words, got)
		}
	}
}

func TestFindIgnoresCase(t *testing.T) {
	table := testCodec(t).commands
	for _, name := range []string{"get", "GET", "gEt"} {
		if spec := table.find([]byte(name)); spec == nil || spec.name != "get" {
			t.Errorf("%s: found %v", name, spec)
		}
	}
	for _, name := range []string{"", "gets", strings.Repeat("GET", 100)} {
		if spec := table.find([]byte(name)); spec != nil {
			t.Errorf("%s: found %v", name, spec)
		}
	}
}

func TestUnknownCommandEchoesLittle(t *testing.T) {
	long := []byte(strings.Repeat("x", 10_000))
	if n := len(unknownCommand(long, [][]byte{long, long, long})); n > 400 {
		t.Errorf("the text has %d bytes", n)
	}
}

func TestFailures(t *testing.T) {
	address := func(id uint64) string { return map[uint64]string{2: "127.0.0.1:7002"}[id] }
	tests := []struct {
		err    error
		kind   commandKind
		status wire.Status
		begin  string
	}{
		{node.ErrNoLeader, kindWrite, wire.NoLeader, "CLUSTERDOWN "},
		{fmt.Errorf("wrapped: %w", node.ErrOverloaded), kindWrite, wire.Overloaded, "OVERLOADED "},
		{node.ErrTooLarge, kindWrite, wire.TooLarge, "TOOLARGE "},
		{node.ErrDiskFull, kindWrite, wire.DiskFull, "DISKFULL "},
		{node.ErrClosed, kindRead, wire.Closed, "CLOSED "},
		{node.ErrGroupFailed, kindRead, wire.Failed, "FAILED "},
		{&node.NotLeaderError{Leader: 2}, kindWrite, wire.NotLeader, "NOTLEADER "},
		{&node.NotLeaderError{}, kindWrite, wire.NotLeader, "NOTLEADER "},
		{node.ErrBehind, kindRead, wire.Behind, "BEHIND "},
		{node.ErrGroupRemoved, kindWrite, wire.NoGroup, "NOGROUP "},
		{node.ErrSessionExpired, kindWrite, wire.SessionExpired, "SESSIONEXPIRED "},
		{node.ErrSequenceTooOld, kindWrite, wire.SequenceTooOld, "SEQUENCETOOOLD "},
		{node.ErrSessionFull, kindWrite, wire.SessionFull, "SESSIONFULL "},
		{fmt.Errorf("%w: before: %w", node.ErrUnknown, node.ErrSessionExpired), kindWrite,
			wire.Unknown, "UNKNOWN "},
		{node.ErrUnknown, kindWrite, wire.Unknown, "UNKNOWN outcome unknown"},
		{errors.New("something new"), kindWrite, wire.Unknown, "UNKNOWN outcome unknown"},
		{node.ErrUnknown, kindRead, wire.Unknown, "UNKNOWN no answer"},
	}
	for _, test := range tests {
		f := failureOf(test.err, test.kind, address)
		if f.status != test.status || !strings.HasPrefix(f.text, test.begin) {
			t.Errorf("%v: got %v %q", test.err, f.status, f.text)
		}
		// What a client is told must agree with what the node knows.
		isSure := node.OutcomeOf(test.err) == node.NotApplied
		if says := strings.Contains(f.text, "not applied"); says != isSure {
			t.Errorf("%v: not applied is %v, the text is %q", test.err, isSure, f.text)
		}
	}
	if f := failureOf(&node.NotLeaderError{Leader: 2}, kindWrite, address); !strings.HasSuffix(
		f.text, "ask 127.0.0.1:7002") {
		t.Errorf("the leader is not named: %q", f.text)
	}
}

// fatalMachine stops.
type fatalMachine struct {
	statemachine.StateMachine[Command, any]
}

func (fatalMachine) Apply(statemachine.Meta, Command) (any, error) {
	return nil, statemachine.Fatal(errors.New("broken"))
}

func TestFatalIsNoAnswer(t *testing.T) {
	machine, err := RESP(fatalMachine{}, Write("set", 3)).machines(groupID)
	if err != nil {
		t.Fatal(err)
	}
	payload := appendCommand(nil, NewCommand("set", "a", "b"))
	if answer, err := machine.Apply(statemachine.Meta{}, payload); err == nil {
		t.Fatalf("got the answer %q", answer)
	}
}
