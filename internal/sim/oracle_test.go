package sim_test

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/statemachine"
)

// oracle knows everything that was ever committed, and what every operation of a client must see.
type oracle struct {
	w         *world
	groups    []*groupOracle
	ops       []*op // by id, from 1
	open      []*op
	elections int
}

// firstIndex is the first entry of a log: a group begins behind an imaginary snapshot at 1.
const firstIndex = 2

// groupOracle is the reference of one group: the committed log, applied by itself.
type groupOracle struct {
	w             *world
	id            uint64
	leaders       leaders
	places        map[place]matched
	data          map[place]payload
	committed     []entryID       // from firstIndex on
	configs       []configuration // committed ones, in their order
	asked         []*change       // by the operator
	used          map[uint64]bool // hosts that were members, or asked to be
	quorumChecked uint64
	machine       *machine
	stage         *apply.Stage    // around the machine
	states        []uint64        // hash of the state behind each committed entry
	cells         map[byte][]past // every cell a key ever had
	time          time.Time       // of the last command
	floor         uint64          // the highest index that a client has been told
	floors        []floor         // what it was from when on
}

type payload struct {
	kind pb.EntryType
	data []byte
}

// floor is the highest index that a client has been told, from a time on.
type floor struct {
	at    int64
	index uint64
}

// told raises the floor: a client knows of an index.
func (o *groupOracle) told(index uint64) {
	if index > o.floor {
		o.floor = index
		o.floors = append(o.floors, floor{o.w.now, index})
	}
}

// floorAt is what the floor was at a time.
func (o *groupOracle) floorAt(at int64) uint64 {
	i, _ := slices.BinarySearchFunc(o.floors, at+1, func(f floor, at int64) int {
		return cmp.Compare(f.at, at)
	})
	if i == 0 {
		return 0
	}
	return o.floors[i-1].index
}

// past is the cell that a key had from an index on.
type past struct {
	index uint64
	cell  []byte
}

func newOracle(w *world, groups int) *oracle {
	o := &oracle{w: w}
	for id := range groups {
		g := &groupOracle{w: w, id: uint64(id + 1), leaders: leaders{},
			places: map[place]matched{}, data: map[place]payload{}, machine: newMachine(),
			cells: map[byte][]past{}, used: map[uint64]bool{}}
		g.stage = apply.New(reference{g.machine, g})
		g.stage.Begin(apply.Position{Index: firstIndex - 1, Term: 1, Members: w.first()}, nil)
		g.configs = []configuration{{firstIndex - 1, w.first(), g.stage.Directory()}}
		for _, id := range w.first().GetVoters() {
			g.used[id] = true
		}
		o.groups = append(o.groups, g)
	}
	return o
}

// reference is the machine of an oracle: it notes what is applied. Which of the commands in the log
// are, sessions decide; a test of internal/apply holds those against a model.
type reference struct {
	*machine
	o *groupOracle
}

func (r reference) Apply(meta statemachine.Meta, command []byte) ([]byte, error) {
	if meta.Time.Before(r.o.time) {
		r.o.w.violated("order", "group %d: entry %d is of %v, one before it of %v", r.o.id, meta.Index,
			meta.Time, r.o.time)
	}
	r.o.time = meta.Time
	answer, err := r.machine.Apply(meta, command)
	if err != nil {
		return nil, err
	}
	key := command[9]
	r.o.cells[key] = append(r.o.cells[key], past{meta.Index, answer})
	r.o.w.oracle.committedCommand(r.o, meta.Index, command, answer)
	return answer, nil
}

func (o *oracle) group(id uint64) *groupOracle { return o.groups[id-1] }

func (o *groupOracle) last() uint64            { return firstIndex - 1 + uint64(len(o.committed)) }
func (o *groupOracle) at(index uint64) entryID { return o.committed[index-firstIndex] }

// learn keeps what entries carry until one of their place is committed.
func (o *groupOracle) learn(entries []*pb.Entry) {
	for _, e := range entries {
		at := place{e.GetIndex(), e.GetTerm()}
		if _, ok := o.data[at]; !ok {
			o.data[at] = payload{e.GetType(), e.GetData()}
		}
	}
}

// commit adds the next committed entry and applies it to the reference.
func (o *groupOracle) commit(index uint64, id entryID) {
	o.committed = append(o.committed, id)
	p := o.data[place{index, id.term}]
	e := &pb.Entry{Type: &p.kind, Index: &index, Term: &id.term, Data: p.data}
	var members *pb.ConfState
	if p.kind != pb.EntryNormal {
		members = o.commitChange(index, p.data)
	}
	if err := o.stage.Entry(toPresentEntry(e), members, nil); err != nil {
		o.w.violated("state machine safety", "group %d: %v", o.id, err)
	}
	if p.kind != pb.EntryNormal {
		o.configs = append(o.configs, o.now().behind(index, members, p.data))
	}
	o.states = append(o.states, o.machine.hash())
}

// cellAt is what a query for key answers at index.
func (o *groupOracle) cellAt(key byte, index uint64) []byte {
	list := o.cells[key]
	low, high := 0, len(list)
	for low < high {
		if mid := (low + high) / 2; list[mid].index <= index {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == 0 {
		return cell{}.encode()
	}
	return list[low-1].cell
}

// committedCommand notes where a client's command stands in the log: at most at one place, and
// nowhere if its client was told so.
func (o *oracle) committedCommand(g *groupOracle, index uint64, command, answer []byte) {
	id := commandID(command)
	if id == 0 || id > uint64(len(o.ops)) {
		o.w.violated("exactly once", "group %d, entry %d has command %d, which nobody sent", g.id,
			index, id)
	}
	op := o.ops[id-1]
	if op.group != g.id || !bytes.Equal(op.payload, command) {
		o.w.violated("exactly once", "group %d, entry %d has another command %d than was sent", g.id,
			index, id)
	}
	if op.index != 0 {
		o.w.violated("exactly once", "group %d has command %d in entry %d and in entry %d", g.id, id,
			op.index, index)
	}
	if op.ended && op.outcome == node.NotApplied {
		o.w.violated("outcome", "group %d, entry %d has command %d, whose client was told that it "+
			"is not applied", g.id, index, id)
	}
	op.index, op.reference = index, answer
}

// applied holds the state of a replica against the reference: equal states at equal indexes (thesis
// figure 3.2, State Machine Safety).
func (o *oracle) applied(g *group, index uint64) {
	r := o.group(g.id)
	if index > r.last() {
		o.w.violated("order", "node %d, group %d applies entry %d, committed are %d", g.p.h.id, g.id,
			index, r.last())
	}
	if got, want := g.apply.machine.hash(), r.states[index-firstIndex]; got != want {
		o.w.violated("state machine safety", "node %d, group %d has state %x behind entry %d, the "+
			"reference has %x", g.p.h.id, g.id, got, index, want)
	}
}

// restored holds a restored snapshot against the replay of the log up to its index (thesis section
// 5.1).
func (o *oracle) restored(g *group, index uint64) {
	r := o.group(g.id)
	if index < firstIndex-1 || index > r.last() {
		o.w.violated("snapshots", "node %d, group %d restores a snapshot of entry %d, committed are %d",
			g.p.h.id, g.id, index, r.last())
	}
	want := newMachine().hash() // of the imaginary snapshot that every group begins with
	if index >= firstIndex {
		want = r.states[index-firstIndex]
	}
	if got := g.apply.machine.hash(); got != want {
		o.w.violated("snapshots", "node %d, group %d: the snapshot at %d has state %x, the replay %x",
			g.p.h.id, g.id, index, got, want)
	}
}
