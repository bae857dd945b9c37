package server

import (
	"fmt"
	"iter"
	"strings"

	"github.com/connectraft/connect/internal/wire"
)

// Command is one request of a client: the name of a declared command and its arguments. Its
// number of arguments is within the declared arity. The arguments are memory that is only valid
// during the call that got the Command; [Command.Arg] copies.
type Command struct {
	name string
	args [][]byte
}

// NewCommand makes a command, for tests of a service's state machine.
func NewCommand(name string, args ...string) Command {
	c := Command{name: strings.ToLower(name), args: make([][]byte, len(args))}
	for i, arg := range args {
		c.args[i] = []byte(arg)
	}
	return c
}

// Name returns the name as it was declared, in lower case.
func (c Command) Name() string { return c.name }

// Len returns the number of arguments, the name not counted.
func (c Command) Len() int { return len(c.args) }

// Arg returns a copy of argument i, 0 being the first behind the name. It panics when there are
// not so many.
func (c Command) Arg(i int) string { return string(c.args[i]) }

// Bytes returns argument i without a copy.
func (c Command) Bytes(i int) []byte { return c.args[i] }

// Args yields a copy of each argument.
func (c Command) Args() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, arg := range c.args {
			if !yield(string(arg)) {
				return
			}
		}
	}
}

type commandKind uint8

const (
	kindWrite commandKind = iota
	kindRead
)

// CommandSpec declares a command of a service; [Write] and [Read] make one.
type CommandSpec struct {
	name  string
	arity int
	kind  commandKind
}

// Write declares a command that changes the state: it goes through the log and reaches Apply.
//
// Arity counts as in Redis: the number of words of the command, its name included. A negative
// arity is a minimum: -2 takes the name and one argument or more.
func Write(name string, arity int) CommandSpec {
	return CommandSpec{name: strings.ToLower(name), arity: arity, kind: kindWrite}
}

// Read declares a command that only reads: it reaches Query, on the node that was asked, once that
// node's state reflects everything acknowledged before. Arity counts as for [Write].
func Read(name string, arity int) CommandSpec {
	return CommandSpec{name: strings.ToLower(name), arity: arity, kind: kindRead}
}

// accepts reports whether the arity takes a command of so many words.
func (s *CommandSpec) accepts(words int) bool {
	if s.arity < 0 {
		return words >= -s.arity
	}
	return words == s.arity
}

func (s *CommandSpec) validate() error {
	if s.name == "" || len(s.name) > wire.NameBytes || strings.ContainsAny(s.name, " \t\r\n") {
		return fmt.Errorf("server: command name %q: want 1 to %d bytes without spaces",
			s.name, wire.NameBytes)
	}
	if s.arity == 0 {
		return fmt.Errorf("server: command %s: arity 0: want at least 1, the name counts", s.name)
	}
	return nil
}

func appendCommand(dst []byte, c Command) []byte {
	return wire.AppendCommand(dst, c.name, c.args)
}
