package server

import (
	"errors"
	"fmt"
	"strings"

	"github.com/connectraft/connect/internal/wire"
)

// commandTable holds the commands of a service by name. It never changes once it is made.
type commandTable map[string]*CommandSpec

func newCommandTable(specs []CommandSpec) (commandTable, error) {
	table := make(commandTable, len(specs))
	var errs []error
	for i := range specs {
		spec := &specs[i]
		if err := spec.validate(); err != nil {
			errs = append(errs, err)
		}
		if table[spec.name] != nil {
			errs = append(errs, fmt.Errorf("server: command %s is declared twice", spec.name))
		}
		table[spec.name] = spec
	}
	if len(specs) == 0 {
		errs = append(errs, errors.New("server: a service needs at least one command"))
	}
	return table, errors.Join(errs...)
}

// find returns the command of that name in any case, or nil. It allocates only when a client
// writes the name in upper case and it is longer than names usually are.
func (t commandTable) find(name []byte) *CommandSpec {
	if spec := t[string(name)]; spec != nil {
		return spec
	}
	var buffer [32]byte
	return t[string(appendLower(buffer[:0], name))]
}

func appendLower(dst, name []byte) []byte {
	for _, b := range name {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		dst = append(dst, b)
	}
	return dst
}

// parse decodes a command that is declared, with an arity that it accepts.
func (t commandTable) parse(src []byte) (Command, *CommandSpec, error) {
	name, args, err := wire.ParseCommand(src)
	if err != nil {
		return Command{}, nil, err
	}
	spec := t[string(name)]
	if spec == nil {
		return Command{}, nil, errors.New(unknownCommand(name, args))
	}
	if !spec.accepts(1 + len(args)) {
		return Command{}, nil, errors.New(wrongArity(spec.name))
	}
	return Command{name: spec.name, args: args}, spec, nil
}

// The two texts are those of Redis, which client libraries know. echoBytes bounds what of a
// client's own words comes back to it.
const echoBytes = 128

func wrongArity(name string) string {
	return "ERR wrong number of arguments for '" + name + "' command"
}

func unknownCommand(name []byte, args [][]byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ERR unknown command '%s', with args beginning with: ",
		name[:min(len(name), echoBytes)])
	for echoed, i := 0, 0; i < len(args) && echoed < echoBytes; i++ {
		arg := args[i][:min(len(args[i]), echoBytes-echoed)]
		fmt.Fprintf(&b, "'%s' ", arg)
		echoed += len(arg) + 3
	}
	return b.String()
}
