package server

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/connectraft/connect/statemachine"
)

// Service is what a server serves: state machines and the commands that reach them. It is for one
// server; another server needs a service with machines of its own.
type Service struct {
	// machines makes the state machine of a group.
	machines func(group uint64) (statemachine.Machine, error)
	commands commandTable
	err      error // why it cannot be served; reported when a server is opened with it
}

// RESP makes a service out of a typed state machine and its commands. Clients reach it with the
// Redis protocol, with a plain line of text, or with package client.
//
// R is the type of the machine's answers: an int, int64, uint64 or bool becomes an integer, a
// string or []byte a bulk string, [Simple] a simple string, a []string, [][]byte or []any an
// array; with R = any each answer may be another of these, and nil is the null. An error of Apply
// or Query becomes an error whose text gets the prefix "ERR " unless it begins with a word in
// capitals.
//
// The service has the first group of the cluster alone; see [RESPGroups].
func RESP[R any](machine statemachine.StateMachine[Command, R], commands ...CommandSpec) Service {
	return RESPGroups(func(group uint64) (statemachine.StateMachine[Command, R], error) {
		if group != groupID {
			return nil, fmt.Errorf("server: the service has one state machine, for group %d: "+
				"use RESPGroups", groupID)
		}
		return machine, nil
	}, commands...)
}

// RESPGroups makes a service as [RESP] does that has a state machine for each group of the cluster:
// newMachine makes it, in its initial state, whenever the group starts on the server's node. It may
// be called from several goroutines at a time.
func RESPGroups[R any](
	newMachine func(group uint64) (statemachine.StateMachine[Command, R], error),
	commands ...CommandSpec,
) Service {
	table, err := newCommandTable(commands)
	answer := reflect.TypeFor[R]()
	if answer.Kind() != reflect.Interface {
		if _, ok := appendAnswer(nil, reflect.Zero(answer).Interface()); !ok {
			err = errors.Join(err, fmt.Errorf("server: answers of type %v have no RESP form", answer))
		}
	}
	codec := respCodec[R]{commands: table}
	machines := func(group uint64) (statemachine.Machine, error) {
		machine, err := newMachine(group)
		if err != nil {
			return nil, err
		}
		return statemachine.Typed[Command, R](machine, codec), nil
	}
	return Service{machines: machines, commands: table, err: err}
}

// respCodec puts commands into the log in the form of package wire, and answers into RESP, so that
// the node which a client asked sends them on as they are.
type respCodec[R any] struct{ commands commandTable }

var _ statemachine.Codec[Command, any] = respCodec[any]{}

func (c respCodec[R]) AppendCommand(dst []byte, command Command) []byte {
	return appendCommand(dst, command)
}

func (c respCodec[R]) ParseCommand(src []byte) (Command, error) {
	command, _, err := c.commands.parse(src)
	return command, err
}

func (c respCodec[R]) AppendAnswer(dst []byte, answer R, err error) []byte {
	if err != nil {
		return appendError(dst, err.Error())
	}
	start := len(dst)
	dst, ok := appendAnswer(dst, answer)
	if !ok {
		return appendError(dst[:start], noForm(answer))
	}
	return dst
}

// check refuses bytes that are no command of the service of this kind. Those that pass can be
// parsed by every node, so one client cannot stop the service with one bad request.
func (s Service) check(payload []byte, kind commandKind) error {
	command, spec, err := s.commands.parse(payload)
	if err == nil && spec.kind != kind {
		return fmt.Errorf("ERR '%s' is sent as the wrong kind of request", command.Name())
	}
	return err
}
