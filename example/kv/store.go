package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/connectraft/connect/server"
	"github.com/connectraft/connect/statemachine"
)

var (
	errSyntax     = errors.New("syntax error")
	errNotInteger = errors.New("value is not an integer or out of range")
	errOverflow   = errors.New("increment or decrement would overflow")
	errTooMuch    = errors.New("the values have more than 64 MiB, ask for fewer at a time")
)

// mgetBytesMax bounds the answer to MGET, which may name a large value thousands of times.
const mgetBytesMax = 64 << 20

// store is the state machine: keys and their values. Answers are of different types, hence any.
type store struct{ values map[string]string }

var (
	_ statemachine.StateMachine[server.Command, any] = (*store)(nil)
	_ statemachine.Querier[server.Command, any]      = (*store)(nil)
)

func newStore() *store { return &store{values: map[string]string{}} }

// Apply executes SET, DEL and INCR.
func (s *store) Apply(_ statemachine.Meta, c server.Command) (any, error) {
	switch c.Name() {
	case "set":
		return s.set(c)
	case "del":
		return s.del(c), nil
	case "incr":
		return s.incr(c.Arg(0))
	}
	return nil, fmt.Errorf("%s is not a write", c.Name())
}

// Query answers GET, MGET, EXISTS and DBSIZE.
func (s *store) Query(c server.Command) (any, error) {
	switch c.Name() {
	case "get":
		return s.get(c.Bytes(0)), nil
	case "mget":
		return s.mget(c)
	case "exists":
		return s.count(c), nil
	case "dbsize":
		return len(s.values), nil
	}
	return nil, fmt.Errorf("%s is not a read", c.Name())
}

// set takes none of Redis's options: a key and a value is all.
func (s *store) set(c server.Command) (any, error) {
	if c.Len() != 2 {
		return nil, errSyntax
	}
	s.values[c.Arg(0)] = c.Arg(1)
	return server.Simple("OK"), nil
}

// get returns the value, or nil for a key that is not there.
func (s *store) get(key []byte) any {
	if value, ok := s.values[string(key)]; ok {
		return value
	}
	return nil
}

// mget returns the value of each key, or nil in its place.
func (s *store) mget(c server.Command) (any, error) {
	values, size := make([]any, c.Len()), 0
	for i := range values {
		value, ok := s.values[string(c.Bytes(i))]
		if !ok {
			continue
		}
		if size += len(value); size > mgetBytesMax {
			return nil, errTooMuch
		}
		values[i] = value
	}
	return values, nil
}

// del returns how many keys it removed.
func (s *store) del(c server.Command) int {
	before := len(s.values)
	for key := range c.Args() {
		delete(s.values, key)
	}
	return before - len(s.values)
}

// count returns how many of the keys are there; one that is named twice counts twice.
func (s *store) count(c server.Command) int {
	n := 0
	for key := range c.Args() {
		if _, ok := s.values[key]; ok {
			n++
		}
	}
	return n
}

func (s *store) incr(key string) (any, error) {
	n := int64(0)
	if value, ok := s.values[key]; ok {
		if n, ok = parseInteger(value); !ok {
			return nil, errNotInteger
		}
	}
	if n == math.MaxInt64 {
		return nil, errOverflow
	}
	s.values[key] = strconv.FormatInt(n+1, 10)
	return n + 1, nil
}

// parseInteger takes only the one way in which an integer is printed: like Redis it refuses
// "+1", "01" and " 1".
func parseInteger(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == s
}
