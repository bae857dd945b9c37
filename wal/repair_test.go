package wal_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
	"google.golang.org/protobuf/proto"
)

// TestRepairModel spoils logs of random workloads in random places, opens them with Repair, and
// checks against a model: a group that is not fenced is whole, one that is fenced shows nothing but
// the truth, and it can be made whole again with what a peer, the model, has.
func TestRepairModel(t *testing.T) {
	seeds := []uint64{416, 2921, 3160, 3363} // found something once
	for seed := range uint64(150) {
		seeds = append(seeds, seed)
	}
	fenced := 0
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { fenced += repairModel(t, seed) })
	}
	if fenced < 50 {
		t.Errorf("only %d groups were fenced", fenced)
	}
}

func repairModel(t *testing.T, seed uint64) (fenced int) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	o := testOptions(vfs.NewMem())
	o.SegmentBytes = 4 << 10
	l := open(t, o)
	model := map[uint64]*modelGroup{}
	term := uint64(1)
	for range 150 {
		term = repairStep(t, rnd, l, model, term)
		if rnd.IntN(40) == 0 {
			l = reopen(t, l, o)
		}
	}
	closeLog(t, l)
	damageFiles(t, rnd, o)
	o.Repair = true
	l = open(t, o)
	for range 2 { // a fence is the same after a restart
		for id, m := range model {
			checkTruth(t, l.Group(id), m)
		}
		for _, id := range l.Groups() {
			if model[id] == nil && l.Group(id).Damage() == nil {
				t.Fatalf("group %d has come back to life", id)
			}
		}
		l = reopen(t, l, o)
	}
	for id, m := range model {
		if l.Group(id).Damage() != nil {
			fenced++
			heal(t, l, id, m)
		} else if err := l.Compact(id, m.base); err != nil {
			t.Fatal(err)
		}
	}
	o.Repair = false
	for _, id := range l.Groups() {
		if model[id] == nil {
			if err := l.RemoveGroup(id); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		checkModel(t, seed, l, model)
		l = reopen(t, l, o)
	}
	return fenced
}

// repairStep makes one change that a raft group could make: what replaces entries has a new term.
func repairStep(t *testing.T, rnd *rand.Rand, l *wal.Log, model map[uint64]*modelGroup,
	term uint64) uint64 {
	id := 1 + rnd.Uint64N(4)
	m := model[id]
	if m == nil {
		m = &modelGroup{}
	}
	switch k := rnd.IntN(100); {
	case k < 84:
		first := m.last() + 1
		if loose := m.last() - max(m.base, m.state.Commit); loose > 0 && rnd.IntN(5) == 0 {
			first -= 1 + rnd.Uint64N(loose)
		}
		term += uint64(rnd.IntN(2))
		if first <= m.last() {
			term++
		}
		u := wal.Update{Group: id, Entries: entries(id, first, first+rnd.Uint64N(3), term, rnd.IntN(300))}
		m.entries = append(m.entries[:first-m.base-1:first-m.base-1], u.Entries...)
		commit := m.state.Commit
		if commit < m.last() {
			commit += rnd.Uint64N(m.last() - commit)
		}
		m.state = wal.State{Term: term, Vote: 1 + term%4, Commit: commit}
		u.State = new(m.state)
		mustAppend(t, l, u)
		model[id] = m
	case k < 94 && m.state.Commit > m.base:
		n := 1 + rnd.Uint64N(m.state.Commit-m.base)
		m.baseTerm, m.base = m.entries[n-1].GetTerm(), m.base+n
		m.entries = m.entries[n:]
		if err := l.Compact(id, m.base); err != nil {
			t.Fatal(err)
		}
	case k < 97:
		term++
		m.base, m.baseTerm, m.entries = m.last()+1+rnd.Uint64N(3), term, nil
		m.state = wal.State{Term: term, Commit: m.base}
		mustAppend(t, l, wal.Update{Group: id, State: new(m.state),
			Mark: &wal.Mark{Index: m.base, Term: term}})
		model[id] = m
	case k < 98:
		if err := l.RemoveGroup(id); err != nil {
			t.Fatal(err)
		}
		delete(model, id)
	}
	return term
}

// damageFiles damages a closed log in one to three places.
func damageFiles(t *testing.T, rnd *rand.Rand, o wal.Options) {
	t.Helper()
	for range 1 + rnd.IntN(3) {
		names := segmentNames(t, o)
		name := names[rnd.IntN(len(names))]
		b := readFile(t, o, name)
		switch at := rnd.Int64N(int64(len(b))); rnd.IntN(8) {
		case 0:
			if len(names) > 1 {
				if err := o.FS.Remove(filepath.Join(o.Dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		case 1:
			truncate(t, o, name, at)
		case 2, 3:
			if at &^= 511; at+512 <= int64(len(b)) {
				writeFile(t, o, name, make([]byte, 512), at)
			}
		default:
			writeFile(t, o, name, []byte{b[at] ^ 1<<rnd.IntN(8)}, at)
		}
	}
}

// checkTruth checks a group behind damage.
func checkTruth(t *testing.T, g *wal.Group, m *modelGroup) {
	t.Helper()
	d := g.Damage()
	if d == nil {
		// A compaction that was lost leaves more than there has to be.
		if g.State() != m.state || g.Mark().Index > m.base || g.LastIndex() != m.last() {
			t.Fatalf("not fenced with state %+v mark %+v, want %+v", g.State(), g.Mark(), m)
		}
	} else if d.FirstIndex != g.LastIndex()+1 {
		t.Fatalf("the log ends at %d, the damage begins at %d", g.LastIndex(), d.FirstIndex)
	}
	for i := max(g.FirstIndex(), m.base+1); i <= min(g.LastIndex(), m.last()); i++ {
		list, err := g.Entries(i, i+1, 0)
		if err != nil || !proto.Equal(list[0], m.entries[i-m.base-1]) {
			t.Fatalf("entry %d is %v (%v), want %v; damage %v", i, list, err, m.entries[i-m.base-1], d)
		}
	}
}

// heal does what a node does with its peers: it fills holes, takes a snapshot where the peers have
// no entries, brings the log up to the peers, and lifts the fence.
func heal(t *testing.T, l *wal.Log, id uint64, m *modelGroup) {
	t.Helper()
	g := l.Group(id)
	for range 10 {
		d := g.Damage()
		if d == nil || d.Resume == 0 || d.FirstIndex <= m.base || d.Resume > m.last() {
			break
		}
		if err := l.Mend(id, m.entries[d.FirstIndex-m.base-1:d.Resume-m.base]); err != nil {
			break // what stands behind the hole is not what the peers have
		}
	}
	state := m.state
	state.Term = max(state.Term, g.State().Term)
	u := wal.Update{Group: id, State: &state}
	if g.Mark().Index > m.base {
		t.Fatalf("group %d: mark %d is behind that of the peers, %d", id, g.Mark().Index, m.base)
	}
	u.Mark, u.Entries = &wal.Mark{Index: m.base, Term: m.baseTerm}, m.entries
	mustAppend(t, l, u)
	if state != m.state {
		t.Fatalf("group %d: term %d is higher than ever", id, state.Term)
	}
	if err := l.Unfence(id); err != nil {
		t.Fatal(err)
	}
	if d := g.Damage(); d != nil {
		t.Fatalf("group %d is fenced still: %v", id, d)
	}
}
