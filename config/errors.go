package config

import (
	"fmt"
	"strings"
)

// Error has every problem of a configuration, those of the file in the order of its lines. Load
// and Parse return it; nothing has been started or written. The user corrects the file, the
// environment or the flags.
type Error struct {
	Problems []Problem
}

// Error returns one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is and errors.As see the problems.
func (e *Error) Unwrap() []error {
	errs := make([]error, len(e.Problems))
	for i := range e.Problems {
		errs[i] = &e.Problems[i]
	}
	return errs
}

// Problem is one thing that is wrong.
type Problem struct {
	// File is the path of the file, or "environment" or "command line".
	File string
	// Line counts from 1. For a key that is missing it is the line of the table that misses it,
	// or 1. It is 0 where there are no lines.
	Line int
	// Key is the full name of the key, such as raft.tick or member.peer, of the environment
	// variable or of the flag; empty for a problem of the file as a whole.
	Key string
	// Value is what stands there, as it stands there; empty when nothing does.
	Value string
	// Reason says what is wrong where Want does not say it.
	Reason string
	// Want says what is allowed.
	Want string
	// Err is the cause for a file that cannot be read, else nil.
	Err error
}

// Error returns the problem as one line: file:line: key = value: reason; want what is allowed.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Key != "" {
		b.WriteString(": " + p.Key)
	}
	if p.Value != "" {
		b.WriteString(" = " + p.Value)
	}
	b.WriteString(": ")
	if p.Reason != "" {
		b.WriteString(p.Reason + "; ")
	}
	b.WriteString("want " + p.Want)
	return b.String()
}

// Unwrap returns the cause, if there is one.
func (p *Problem) Unwrap() error { return p.Err }
