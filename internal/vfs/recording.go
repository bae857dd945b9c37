package vfs

// Recording is the operations of a workload on a Mem, and the state before the first of them.
//
// The workload runs once. Replays then walk through its moments, so that the crash images of
// all N moments cost N operations and not N runs.
type Recording struct {
	start *disk
	ops   []*Op
	m     *Mem
}

// Record notes every operation from now on that a crash could undo, or that prevents that. It ends
// an earlier recording of the same file system.
func (m *Mem) Record() *Recording {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recording = &Recording{start: m.disk.clone(), m: m}
	return m.recording
}

// Stop ends the recording.
func (r *Recording) Stop() {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if r.m.recording == r {
		r.m.recording = nil
	}
}

// Len counts the operations so far. A workload calls it before and after a step to know at which
// positions the step began and was acknowledged.
func (r *Recording) Len() int {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	return len(r.ops)
}

// Op returns the operation at a position in [0, Len).
func (r *Recording) Op(position int) *Op {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	return r.ops[position]
}

// Replay returns a walk through the recording that stands before its first operation. Replays are
// independent of each other and of the file system, which may go on; each belongs to one goroutine.
func (r *Recording) Replay() *Replay {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	return &Replay{disk: r.start.clone(), ops: r.ops[:len(r.ops):len(r.ops)]}
}

// Replay stands at a moment of a recording.
type Replay struct {
	disk     *disk
	ops      []*Op
	position int
}

// Position counts the operations that have happened.
func (r *Replay) Position() int { return r.position }

// Len counts the operations of the recording.
func (r *Replay) Len() int { return len(r.ops) }

// Next performs one more operation; false means that there is none.
func (r *Replay) Next() bool {
	if r.position == len(r.ops) {
		return false
	}
	op := *r.ops[r.position]
	r.disk.apply(&op)
	r.position++
	return true
}
