// Package statemachine is what a user of Connect implements.
//
// A state machine is deterministic: the same commands in the same order give the same state and
// the same answers on every node. It never reads a clock, a random source, a file or the network
// while it applies; what it needs of those comes in through the command or through [Meta].
//
// Most services implement the typed [StateMachine] and hand it to server.RESP. The node itself
// drives the byte-level [Machine]; [Typed] makes one of the other.
package statemachine

import (
	"io"
	"time"
)

// Meta tells a machine where in the log a command stands.
type Meta struct {
	// Index is the log index of the entry that carried the command. Several commands may share
	// one entry, so Index never falls but may repeat.
	Index uint64
	// Time is the replicated time: stamped by the proposer, made monotonic when applied, the same
	// on every node. Use it for leases and expiry instead of time.Now.
	Time time.Time
}

// StateMachine is the typed face: C is a command, R an answer.
//
// All methods of one machine are called by one goroutine at a time. An error from Apply or Query
// is the service's answer to the client, part of the replicated behaviour, and not a failure of the
// node; to stop the machine on this node because it cannot go on (its own disk failed, its state is
// broken) return an error made by [Fatal], or panic.
type StateMachine[C, R any] interface {
	// Apply executes one committed command and returns its answer. It must not keep command's
	// memory unless it copies it.
	Apply(meta Meta, command C) (R, error)
	// Snapshot writes the whole state to w.
	Snapshot(w io.Writer) error
	// Restore replaces the whole state by what Snapshot wrote. The machine may hold an older state.
	Restore(r io.Reader) error
}

// Querier is an optional capability of a [StateMachine]: it answers commands that only read. A
// machine without it answers reads with [ErrNoQuery].
type Querier[C, R any] interface {
	// Query answers command from the present state and must not change it.
	Query(command C) (R, error)
}

// Machine is the byte-level interface that the node drives. The node calls all methods of one
// machine from one goroutine at a time.
type Machine interface {
	// Apply executes one committed command. The answer belongs to the caller; command is valid
	// only until Apply returns and is never to be changed: other replicas are sent the same bytes.
	// An error (or a panic) means that this machine cannot go on: the node stops the group and
	// nothing more is applied to it. Answers of the service, errors among them, travel inside
	// answer.
	Apply(meta Meta, command []byte) (answer []byte, err error)
	// Query answers a read from the present state; its error means what Apply's means.
	Query(query []byte) (answer []byte, err error)
	// Snapshot writes the whole state to w.
	Snapshot(w io.Writer) error
	// Restore replaces the whole state by what Snapshot wrote.
	Restore(r io.Reader) error
}
