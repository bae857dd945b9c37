package wal_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

const (
	crashDir      = "/data/wal"
	crashSegment  = 4096
	idleGroup     = 9 // gets a few entries at the start and nothing more: it must not pin segments
	mortalGroup   = 8 // is removed and comes back
	crashGroupMax = 4 // groups 1 to 4 are busy
)

// workload drives a log and keeps its history.
type workload struct {
	t         testing.TB
	fs        *vfs.Mem
	log       *wal.Log
	recording *vfs.Recording
	history   history
	rng       *rand.Rand
	options   wal.Options
	// identity is what the first open drew; behind created operations no crash may change it.
	identity wal.Identity
	created  int
	// mayFail says that faults are injected; err is then the error that ended the workload, and full
	// counts how often the log said that the disk is full.
	mayFail bool
	err     error
	full    int
	// did counts the steps by what they cross.
	did map[string]int
	// lives is the term at which the mortal group began last. With oneLife it does not come back.
	lives   uint64
	oneLife bool
	// peaceful workloads close and are never killed.
	peaceful bool
	// large gives every third entry so much data that it is written from where it lies.
	large bool
	// serial makes the bytes of every entry different from those of all others.
	serial int
}

func crashOptions(fs vfs.FS) wal.Options {
	return wal.Options{
		FS: fs, Dir: crashDir, SegmentBytes: crashSegment, CacheBytes: 8 << 10, Inline: true,
		Identity: wal.Identity{ClusterID: "crash", NodeID: 1},
		Rand:     rand.NewChaCha8([32]byte{1}),
	}
}

// newWorkload records from the very first operation, so the creation of the log is enumerated too.
func newWorkload(t testing.TB, seed uint64) *workload {
	t.Helper()
	w := unopenedWorkload(t, seed)
	w.open()
	return w
}

// unopenedWorkload leaves it to the caller to open the log.
func unopenedWorkload(t testing.TB, seed uint64) *workload {
	fs := vfs.NewMem()
	return &workload{
		t: t, fs: fs, recording: fs.Record(), rng: rand.New(rand.NewPCG(seed, 1)),
		history: history{models: []model{{}}}, options: crashOptions(fs), did: map[string]int{},
	}
}

// run makes n random steps, or fewer if one ends the workload.
func (w *workload) run(n int) {
	w.t.Helper()
	w.append(true, wal.Update{
		Group: idleGroup, State: &wal.State{Term: 1, Vote: 2, Commit: 1},
		Entries: w.entries(idleGroup, 1, 1, 2, 60),
	})
	for i := 0; i < n && w.err == nil; i++ {
		w.step()
	}
}

// call runs one call of the log, which makes the given changes. A call that says that the disk is
// full must have changed nothing, and is made again. Any other error ends the workload: it is
// fatal unless an error is expected.
func (w *workload) call(what string, acknowledges bool, changes []model, run func() error) {
	w.t.Helper()
	if w.err != nil {
		return
	}
	before := w.history.now()
	w.did[what]++
	c := call{what: what, start: w.recording.Len()}
	w.history.models = append(w.history.models, changes...)
	err := run()
	for retries := 0; errors.Is(err, wal.ErrDiskFull) && retries < 3; retries++ {
		w.full++
		if w.log != nil {
			if err := before.differs(w.log); err != nil {
				w.t.Fatalf("%s says that the disk is full and changed something: %v", what, err)
			}
		}
		err = run()
	}
	c.end, c.changes = w.recording.Len(), len(w.history.models)-1
	c.acknowledges = acknowledges && err == nil
	w.history.calls = append(w.history.calls, c)
	if w.err = err; err != nil && !w.mayFail {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// open acknowledges: what it shows, raft may act on at once.
func (w *workload) open() {
	w.t.Helper()
	w.call("open", true, nil, func() error {
		var err error
		w.log, err = wal.Open(w.options)
		return err
	})
	if w.err != nil {
		return
	}
	if w.identity == (wal.Identity{}) {
		w.identity, w.created = w.log.Identity(), w.recording.Len()
	}
	if w.mayFail {
		return
	}
	if err := w.history.now().differs(w.log); err != nil {
		w.t.Fatalf("after open: %v", err)
	}
}

func (w *workload) close() {
	w.t.Helper()
	w.call("close", true, nil, w.log.Close)
	if w.err == nil {
		w.log = nil
	}
}

// kill ends the process without a close; the page cache survives.
func (w *workload) kill() {
	w.t.Helper()
	switch {
	case w.err != nil:
	case w.peaceful, !w.options.Inline: // The worker of a killed log would go on.
		w.close()
		w.open()
	default:
		w.did["kill"]++
		w.fs.Kill()
		w.log = nil
		w.open()
	}
}

func (w *workload) append(sync bool, updates ...wal.Update) {
	w.t.Helper()
	next := w.history.now()
	var changes []model
	for _, u := range updates {
		next = next.with(u)
		changes = append(changes, next)
	}
	what := fmt.Sprintf("append of %d updates", len(updates))
	w.call(what, sync, changes, func() error { return w.log.Append(updates, sync) })
}

func (w *workload) compact(group, index uint64) {
	w.t.Helper()
	changes := []model{w.history.now().compacted(group, index)}
	w.call("compact", false, changes, func() error { return w.log.Compact(group, index) })
}

func (w *workload) remove(group uint64) {
	w.t.Helper()
	changes := []model{w.history.now().removed(group)}
	w.call("remove group", false, changes, func() error { return w.log.RemoveGroup(group) })
}

// entries makes n entries from index on.
func (w *workload) entries(group, index, term uint64, n, bytesMax int) []*raftpb.Entry {
	entries := make([]*raftpb.Entry, n)
	for i := range entries {
		w.serial++
		data := fmt.Sprintf("group %d entry %d serial %d ", group, index+uint64(i), w.serial)
		data += strings.Repeat(string(rune('a'+w.serial%26)), w.rng.IntN(bytesMax))
		if w.large && w.rng.IntN(3) == 0 {
			data += largeData(w.serial, w.rng.IntN(bytesMax))
		}
		entries[i] = &raftpb.Entry{
			Index: new(index + uint64(i)), Term: new(term), Data: []byte(data),
			Type: raftpb.EntryType(w.rng.IntN(3)).Enum(),
		}
		if w.rng.IntN(12) == 0 {
			entries[i].Data = nil // raft's empty entry of a new leader
		}
	}
	return entries
}

// largeData makes data that is not copied on its way to the disk, each of its sectors unlike every
// other one.
func largeData(serial, more int) string {
	var data strings.Builder
	for data.Len() < 16<<10+more {
		fmt.Fprintf(&data, "large %d at %d ", serial, data.Len())
	}
	return data.String()
}

// update makes a likely update of a group: more entries, an overwritten suffix, or a vote.
func (w *workload) update(group uint64, current groupModel) wal.Update {
	state := current.state
	from := current.last() + 1
	if w.rng.IntN(4) == 0 {
		state.Term++
		state.Vote = uint64(w.rng.IntN(4))
		low := max(state.Commit, current.mark.Index) + 1
		if low < from && w.rng.IntN(2) == 0 {
			from = low + w.rng.Uint64N(from-low)
			w.did["suffix overwrite"]++
		}
	}
	state.Term = max(state.Term, 1)
	u := wal.Update{Group: group, State: &state}
	if w.rng.IntN(6) > 0 {
		u.Entries = w.entries(group, from, state.Term, 1+w.rng.IntN(4), 500)
		last := u.Entries[len(u.Entries)-1].GetIndex()
		state.Commit += w.rng.Uint64N(last - state.Commit + 1)
	}
	return u
}

// install makes the update of a snapshot that was received.
func (w *workload) install(group uint64, current groupModel) wal.Update {
	w.did["snapshot mark"]++
	state := current.state
	state.Term++
	mark := wal.Mark{
		Index: current.last() + 1 + w.rng.Uint64N(20), Term: state.Term,
		ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, w.rng.Uint64N(9) + 3}},
	}
	state.Commit = mark.Index
	u := wal.Update{Group: group, State: &state, Mark: &mark}
	if w.rng.IntN(2) == 0 {
		u.Entries = w.entries(group, mark.Index+1, state.Term, 2, 300)
	}
	return u
}

// batch appends updates of one to three groups; a group may have several in one batch.
func (w *workload) batch() {
	w.t.Helper()
	next := w.history.now()
	var updates []wal.Update
	for range 1 + w.rng.IntN(3) {
		group := 1 + w.rng.Uint64N(crashGroupMax)
		u := w.update(group, next[group])
		if w.rng.IntN(12) == 0 {
			u = w.install(group, next[group])
		}
		next = next.with(u)
		updates = append(updates, u)
	}
	w.append(w.rng.IntN(4) > 0, updates...)
}

// step is one step of a random workload.
func (w *workload) step() {
	w.t.Helper()
	group := 1 + w.rng.Uint64N(crashGroupMax)
	current := w.history.now()[group]
	switch w.rng.IntN(20) {
	case 0, 1, 2, 10, 11:
		if current.state.Commit > current.mark.Index {
			span := current.state.Commit - current.mark.Index
			w.compact(group, current.mark.Index+1+max(w.rng.Uint64N(span), w.rng.Uint64N(span)))
		}
	case 3:
		if _, ok := w.history.now()[mortalGroup]; ok {
			w.remove(mortalGroup)
		} else if w.lives == 0 || !w.oneLife {
			// A new life has higher terms, or equal terms would not mean equal entries (thesis 3.5).
			// Where damage hides the removal, not even that tells the two lives apart.
			w.lives += 100
			w.append(true, w.update(mortalGroup, groupModel{state: wal.State{Term: w.lives}}))
		}
	case 4:
		if state := current.state; state.Commit < current.last() {
			state.Commit++
			w.append(false, wal.Update{Group: group, State: &state})
		}
	case 5:
		w.close()
		w.open()
	case 6:
		w.kill()
		if w.rng.IntN(2) == 0 {
			w.kill() // a segment without anything behind its head
		}
	default:
		w.batch()
	}
}
