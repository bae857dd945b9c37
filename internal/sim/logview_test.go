package sim_test

import (
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/wal"
)

// logView is a log as the simulation knows it: where it begins, and the identity of each entry.
type logView struct {
	state   wal.State
	base    uint64 // index in front of the first entry
	baseID  entryID
	entries []entryID
}

// entryID identifies an entry: Log Matching says that the term does, and the rest proves it.
type entryID struct {
	term, hash uint64
	changes    bool // the members
}

func idOf(e *pb.Entry) entryID {
	return entryID{e.GetTerm(), mix(uint64(e.GetType()), hashBytes(e.GetData())),
		e.GetType() != pb.EntryNormal}
}

func (v *logView) last() uint64 { return v.base + uint64(len(v.entries)) }

// at returns the entry at index; ok is false for what is before or behind the log.
func (v *logView) at(index uint64) (id entryID, ok bool) {
	if index <= v.base || index > v.last() {
		return entryID{}, false
	}
	return v.entries[index-v.base-1], true
}

// termAt is the term at index, also of the place in front of the first entry.
func (v *logView) termAt(index uint64) (term uint64, ok bool) {
	if index == v.base {
		return v.baseID.term, true
	}
	id, ok := v.at(index)
	return id.term, ok
}

// holds reports whether the log, or the snapshot in front of it, has the entry.
func (v *logView) holds(index, term uint64) bool {
	if index <= v.base {
		return true
	}
	id, ok := v.at(index)
	return ok && id.term == term
}

// put appends entries over what is there; false when they leave a gap.
func (v *logView) put(first uint64, ids []entryID) bool {
	if len(ids) == 0 {
		return true
	}
	if first <= v.base || first > v.last()+1 {
		return false
	}
	v.entries = append(v.entries[:first-v.base-1], ids...)
	return true
}

// reset begins the log anew behind a snapshot.
func (v *logView) reset(index, term uint64) {
	v.base, v.baseID, v.entries = index, entryID{term: term}, nil
}

// compact moves the beginning up to index.
func (v *logView) compact(index uint64) {
	if index <= v.base || index > v.last() {
		return
	}
	n := index - v.base
	v.baseID = v.entries[n-1]
	v.entries = append([]entryID(nil), v.entries[n:]...)
	v.base = index
}

// viewOf reads a group's log, beside the product and so without the faults of reads.
func viewOf(h *host, g *wal.Group) *logView {
	if h.misread {
		h.disarmAll()
	}
	mark := g.Mark()
	v := &logView{state: g.State(), base: mark.Index, baseID: entryID{term: mark.Term}}
	for next := mark.Index + 1; next <= g.LastIndex(); {
		run, err := g.Entries(next, g.LastIndex()+1, 1<<20)
		if err != nil {
			h.w.violated("durability", "the log cannot read its entry %d after opening: %v", next, err)
		}
		for _, e := range run {
			v.entries = append(v.entries, idOf(e))
		}
		next += uint64(len(run))
	}
	return v
}
