package main

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/connectraft/connect/server"
	"github.com/connectraft/connect/statemachine"
)

// run executes a line of words and returns the answer, or the error's text.
func run(s *store, line string) any {
	words := strings.Fields(line)
	c := server.NewCommand(words[0], words[1:]...)
	var answer any
	var err error
	switch c.Name() {
	case "set", "del", "incr":
		answer, err = s.Apply(statemachine.Meta{}, c)
	default:
		answer, err = s.Query(c)
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return answer
}

func TestCommands(t *testing.T) {
	const notInteger = "error: value is not an integer or out of range"
	s := newStore()
	for _, step := range []struct {
		line string
		want any
	}{
		{"get a", nil},
		{"dbsize", 0},
		{"SET a 1", server.Simple("OK")},
		{"get a", "1"},
		{"incr a", int64(2)},
		{"get a", "2"},
		{"incr fresh", int64(1)},
		{"set b two", server.Simple("OK")},
		{"incr b", notInteger},
		{"get b", "two"},
		{"mget a none b a", []any{"2", nil, "two", "2"}},
		{"exists a none b a", 3},
		{"dbsize", 3},
		{"del a none a", 1},
		{"exists a", 0},
		{"del b fresh", 2},
		{"dbsize", 0},
		{"set a 1 EX 5", "error: syntax error"},
		{"get a", nil},
		{"set n 9223372036854775806", server.Simple("OK")},
		{"incr n", int64(9223372036854775807)},
		{"incr n", "error: increment or decrement would overflow"},
		{"get n", "9223372036854775807"},
		{"set n -1", server.Simple("OK")},
		{"incr n", int64(0)},
		{"set n 9223372036854775808", server.Simple("OK")},
		{"incr n", notInteger},
		{"set n 01", server.Simple("OK")},
		{"incr n", notInteger},
		{"set n +1", server.Simple("OK")},
		{"incr n", notInteger},
	} {
		if got := run(s, step.line); !reflect.DeepEqual(got, step.want) {
			t.Fatalf("%s: got %#v, want %#v", step.line, got, step.want)
		}
	}
}

func TestValuesAreCopied(t *testing.T) {
	s := newStore()
	c := server.NewCommand("set", "key", "value")
	if _, err := s.Apply(statemachine.Meta{}, c); err != nil {
		t.Fatal(err)
	}
	copy(c.Bytes(0), "xxx")
	copy(c.Bytes(1), "xxxxx")
	if got := run(s, "get key"); got != "value" {
		t.Fatalf("the store shares the command's memory: %v", got)
	}
}

func snapshot(t *testing.T, s *store) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSnapshotIsTheSameInAnyOrder(t *testing.T) {
	forward, backward := newStore(), newStore()
	for i := range 1000 {
		run(forward, fmt.Sprintf("set key%d value%d", i, i))
		run(backward, fmt.Sprintf("set key%d value%d", 999-i, 999-i))
	}
	run(backward, "set gone x")
	run(backward, "del gone")
	want := snapshot(t, forward)
	if !bytes.Equal(snapshot(t, backward), want) {
		t.Fatal("equal states, different snapshots")
	}
	dirty := newStore()
	run(dirty, "set old state")
	if err := dirty.Restore(bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(dirty.values, forward.values) {
		t.Fatal("a restored store differs")
	}
}

func TestEmptySnapshot(t *testing.T) {
	s := newStore()
	run(s, "set a 1")
	if err := s.Restore(bytes.NewReader(snapshot(t, newStore()))); err != nil {
		t.Fatal(err)
	}
	if len(s.values) != 0 {
		t.Fatalf("%v is left", s.values)
	}
}

func TestTruncatedSnapshotChangesNothing(t *testing.T) {
	s := newStore()
	run(s, "set key value")
	whole := snapshot(t, s)
	for n := range whole {
		if err := s.Restore(bytes.NewReader(whole[:n])); err == nil {
			t.Fatalf("%d of %d bytes restored", n, len(whole))
		}
		if got := run(s, "get key"); got != "value" {
			t.Fatalf("%d of %d bytes left %v", n, len(whole), got)
		}
	}
}

func TestMgetIsBounded(t *testing.T) {
	s := newStore()
	s.values["large"] = strings.Repeat("x", mgetBytesMax/4)
	if got := run(s, "mget"+strings.Repeat(" large", 4)); len(got.([]any)) != 4 {
		t.Fatalf("four times a quarter of the limit: %.80v", got)
	}
	if got := run(s, "mget"+strings.Repeat(" large", 5)); got != "error: "+errTooMuch.Error() {
		t.Fatalf("five times a quarter of the limit: %.80v", got)
	}
}
