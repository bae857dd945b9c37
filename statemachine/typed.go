package statemachine

import (
	"errors"
	"fmt"
	"io"
)

// ErrNoQuery is the answer to a read of a machine that is no [Querier].
var ErrNoQuery = errors.New("statemachine: this service answers no reads")

// fatalError marks an error as the end of the machine.
type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }

// Fatal marks err as a failure of the machine itself: returned from Apply or Query of a typed
// machine it stops the machine's group on this node instead of being sent to the client.
func Fatal(err error) error { return &fatalError{err} }

// Codec turns typed commands and answers into bytes and back. Its methods are called from many
// goroutines at once.
type Codec[C, R any] interface {
	// AppendCommand appends the encoding of a command to dst.
	AppendCommand(dst []byte, command C) []byte
	// ParseCommand is the inverse; the command may alias src.
	ParseCommand(src []byte) (C, error)
	// AppendAnswer appends the encoding of an answer, or of the error that stands in its place.
	AppendAnswer(dst []byte, answer R, err error) []byte
}

// Typed makes the byte-level machine that a node drives out of a typed one.
func Typed[C, R any](machine StateMachine[C, R], codec Codec[C, R]) Machine {
	querier, _ := machine.(Querier[C, R])
	return &typed[C, R]{machine: machine, querier: querier, codec: codec}
}

type typed[C, R any] struct {
	machine StateMachine[C, R]
	querier Querier[C, R] // nil when the machine answers no reads
	codec   Codec[C, R]
}

func (t *typed[C, R]) Apply(meta Meta, command []byte) ([]byte, error) {
	c, err := t.codec.ParseCommand(command)
	if err != nil {
		// The command was refused at the door by the same codec, so this is an entry of a newer
		// version or a broken one: applying on would let the replicas differ.
		return nil, fmt.Errorf("statemachine: command at index %d: %w", meta.Index, err)
	}
	return t.answer(t.machine.Apply(meta, c))
}

func (t *typed[C, R]) Query(query []byte) ([]byte, error) {
	var none R
	if t.querier == nil {
		return t.answer(none, ErrNoQuery)
	}
	c, err := t.codec.ParseCommand(query)
	if err != nil {
		return t.answer(none, err)
	}
	return t.answer(t.querier.Query(c))
}

func (t *typed[C, R]) answer(r R, err error) ([]byte, error) {
	if fatal, ok := errors.AsType[*fatalError](err); ok {
		return nil, fatal.err
	}
	return t.codec.AppendAnswer(nil, r, err), nil
}

func (t *typed[C, R]) Snapshot(w io.Writer) error { return t.machine.Snapshot(w) }
func (t *typed[C, R]) Restore(r io.Reader) error  { return t.machine.Restore(r) }
