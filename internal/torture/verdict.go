package torture

import (
	"fmt"
	"slices"
	"sync"
)

// Verdict is the outcome of a run, and the exit code of the program.
type Verdict int

const (
	// Valid: every fault happened, the rate was kept, and nothing wrong was seen.
	Valid Verdict = 0
	// Violation: the cluster did what it must never do.
	Violation Verdict = 1
	// Inconclusive: nothing wrong was seen, but the run proves nothing.
	Inconclusive Verdict = 2
)

func (v Verdict) String() string {
	switch v {
	case Valid:
		return "valid"
	case Violation:
		return "VIOLATION"
	}
	return "inconclusive"
}

// findings collects what speaks against the cluster and what speaks against the run. Its methods
// may be called from any goroutine.
type findings struct {
	mu struct {
		sync.Mutex
		violations, doubts []string
	}
}

// linesMax bounds each list; what is wrong for one key is often wrong for many.
const linesMax = 50

// violation notes something that the cluster must never do.
func (f *findings) violation(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.violations = note(f.mu.violations, format, args)
}

// doubt notes a reason why the run proves nothing.
func (f *findings) doubt(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.doubts = note(f.mu.doubts, format, args)
}

func note(lines []string, format string, args []any) []string {
	line := fmt.Sprintf(format, args...)
	if len(lines) >= linesMax || slices.Contains(lines, line) {
		return lines
	}
	return append(lines, line)
}

// lists returns copies of what was noted.
func (f *findings) lists() (violations, doubts []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.mu.violations), slices.Clone(f.mu.doubts)
}

func (f *findings) verdict() Verdict {
	violations, doubts := f.lists()
	switch {
	case len(violations) > 0:
		return Violation
	case len(doubts) > 0:
		return Inconclusive
	}
	return Valid
}
