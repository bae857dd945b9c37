package vfs

import (
	"path"
	"strings"
	"syscall"
)

// ErrIO is the error of a failing device, EIO.
var ErrIO error = syscall.EIO

// Fault makes live operations of a Mem fail or lie. It hits an operation whose kind is in Ops and
// whose path matches Glob, from the Nth such operation on, Times times.
type Fault struct {
	// Ops is the union of the kinds to hit.
	Ops OpKind
	// Glob is a path.Match pattern; without a slash it is for the last element of the path. Empty
	// matches every path. A rename is matched by its old name.
	Glob string
	// Nth is the first matching operation to hit, counted from 1 since Inject; 0 is 1.
	Nth int
	// Times is how many operations to hit; 0 is 1, negative is every one from Nth on.
	Times int
	// Do is what happens instead.
	Do Effect
}

// Effect is what a fault does. Fields that make no sense for an operation are ignored.
type Effect struct {
	// Err is what the operation returns; nil lets it go on.
	Err error
	// Short is how many bytes a write that returns Err has written.
	Short int
	// DropPending makes a sync of a file forget what it should have made durable: the bytes stay
	// visible until a crash, and no later sync saves them. With Err it is the sync that fails once
	// and then lies.
	DropPending bool
	// LoseSync makes a sync return nil and do nothing; a later sync makes the bytes durable.
	LoseSync bool
	// FlipBit flips one bit in what a read returns: bit FlipBitAt modulo the bits that were read.
	FlipBit   bool
	FlipBitAt int
	// Misdirect makes a write go elsewhere and report success.
	Misdirect *Misdirect
	// Hook runs before the operation, without any lock held, so it may block: a stalled disk.
	Hook func(Op)
}

// Misdirect is where a write goes instead.
type Misdirect struct {
	// Name is the file it goes to; empty is the right one. One that does not exist swallows it.
	Name string
	// Shift is added to the offset; before the start of the file the write is swallowed.
	Shift int64
}

// SyncFailsOnce is the effect that real kernels show: the sync returns EIO, the pages count as
// clean, and the next sync succeeds without them (Rebello et al., ATC 2020).
func SyncFailsOnce() Effect { return Effect{Err: ErrIO, DropPending: true} }

// liveFault is an injected fault with its count of matches.
type liveFault struct {
	Fault
	seen int
}

// outcome is what the faults make of one operation.
type outcome struct {
	err       error
	short     int
	drop      bool
	lost      bool
	flip      bool
	bit       int
	misdirect *Misdirect
}

// Inject adds a fault. Several faults may hit one operation: the first error and the first
// misdirection count. The result removes the fault again.
func (m *Mem) Inject(f Fault) (remove func()) {
	f.Nth = max(f.Nth, 1)
	if f.Times == 0 {
		f.Times = 1
	}
	lf := &liveFault{Fault: f}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, lf)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for i := range m.faults {
			if m.faults[i] == lf {
				m.faults = append(m.faults[:i:i], m.faults[i+1:]...)
				return
			}
		}
	}
}

// fault runs an operation through the injected faults.
func (m *Mem) fault(op *Op) outcome {
	var out outcome
	for _, do := range m.hits(op) {
		if do.Hook != nil {
			do.Hook(*op)
		}
		if out.err == nil && do.Err != nil {
			out.err, out.short = do.Err, do.Short
		}
		out.drop = out.drop || do.DropPending
		out.lost = out.lost || do.LoseSync
		if do.FlipBit {
			out.flip, out.bit = true, do.FlipBitAt
		}
		if out.misdirect == nil {
			out.misdirect = do.Misdirect
		}
	}
	return out
}

func (m *Mem) hits(op *Op) []Effect {
	m.mu.Lock()
	defer m.mu.Unlock()
	var effects []Effect
	for _, f := range m.faults {
		if !f.matches(op) {
			continue
		}
		f.seen++
		if f.seen >= f.Nth && (f.Times < 0 || f.seen < f.Nth+f.Times) {
			effects = append(effects, f.Do)
		}
	}
	return effects
}

func (f *liveFault) matches(op *Op) bool {
	if f.Ops&op.Kind == 0 {
		return false
	}
	if f.Glob == "" {
		return true
	}
	name := op.Name
	if !strings.Contains(f.Glob, "/") {
		name = path.Base(name)
	}
	ok, err := path.Match(strings.TrimPrefix(f.Glob, "/"), name)
	return err == nil && ok
}
