package wal_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
	"go.etcd.io/raft/v3/raftpb"
)

// crash ends a log without Close: what was written stays, what was synced and what not.
func crash(fs *vfs.Mem, l *wal.Log) {
	fs.Kill()
	_ = l.Close()
}

func TestCrashKeepsWhatWasWritten(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l := open(t, o)
	appendEach(t, l, 1, 1, 50, 1, 100)
	crash(fs, l)
	for i := uint64(51); i <= 60; i++ {
		l = open(t, o)
		expectEntries(t, l.Group(1), entries(1, 1, i-1, 1, 100))
		appendEach(t, l, 1, i, i, 1, 100)
		crash(fs, l)
	}
	if n := len(segmentNames(t, o)); n > 16 {
		t.Fatalf("%d files after ten crashes", n)
	}
}

// TestTornTailIsCut tears the last append, which nothing confirms.
func TestTornTailIsCut(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l := open(t, o)
	appendEach(t, l, 1, 1, 9, 1, 100)
	mustAppend(t, l, wal.Update{Group: 1, Entries: entries(1, 10, 12, 1, 100)})
	crash(fs, l)
	flip(t, o, payload(1, 11, 1, 100))
	for range 2 {
		l = open(t, o)
		expectEntries(t, l.Group(1), entries(1, 1, 9, 1, 100))
		crash(fs, l)
	}
	l = open(t, o)
	appendEach(t, l, 1, 10, 10, 2, 100)
	l = reopen(t, l, o)
	expectEntries(t, l.Group(1), append(entries(1, 1, 9, 1, 100), entry(1, 10, 2, 100)))
}

// TestEveryBitFlipIsSeen flips each bit of a small log: after that the log is refused, or it is
// the same as before, or, where only the last append is hit, it lacks that one.
func TestEveryBitFlipIsSeen(t *testing.T) {
	build := func() wal.Options {
		fs := vfs.NewMem()
		o := testOptions(fs)
		l := open(t, o)
		for i := uint64(1); i <= 4; i++ {
			mustAppend(t, l, wal.Update{Group: 1, State: &wal.State{Term: i, Vote: 9, Commit: i - 1},
				Entries: entries(1, i, i, i, 30)})
		}
		crash(fs, l)
		return o
	}
	reference := build()
	name := segmentNames(t, reference)[0]
	image := readFile(t, reference, name)
	_, end := find(t, reference, payload(1, 4, 4, 30))
	_, third := find(t, reference, payload(1, 3, 3, 30))
	refused, cut := 0, 0
	for at := int64(0); at < end+30; at++ {
		o := build()
		writeFile(t, o, name, []byte{image[at] ^ 1<<(at%8)}, at)
		l, err := wal.Open(o)
		if err != nil {
			expectDamage(t, err)
			refused++
			continue
		}
		g := l.Group(1)
		last := g.LastIndex()
		if last == 3 && at > third {
			cut++
		} else if last != 4 {
			t.Fatalf("bit flip at %d: the log ends at %d", at, last)
		}
		for i := uint64(1); i <= last; i++ {
			expectEntry(t, g, entry(1, i, i, 30))
		}
		if s := g.State(); s.Term != last || s.Vote != 9 {
			t.Fatalf("bit flip at %d: state %+v", at, s)
		}
		closeLog(t, l)
	}
	if refused == 0 || cut == 0 {
		t.Fatalf("%d refused, %d cut", refused, cut)
	}
}

func expectEntry(t *testing.T, g *wal.Group, want *raftpb.Entry) {
	t.Helper()
	list, err := g.Entries(want.GetIndex(), want.GetIndex()+1, 1)
	if err != nil || len(list) != 1 || list[0].GetTerm() != want.GetTerm() ||
		string(list[0].GetData()) != string(want.GetData()) {
		t.Fatalf("entry %d is %v, %v", want.GetIndex(), list, err)
	}
}

func TestDamageIsRefusedWithItsPlace(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	appendEach(t, l, 4, 1, 100, 2, 100)
	closeLog(t, l)
	name, at := flip(t, o, payload(4, 50, 2, 100))
	_, err := wal.Open(o)
	d := expectDamage(t, err)
	if d.File != name || d.Offset > at || d.Offset < at-400 || d.Group != 4 || d.FirstIndex != 50 ||
		d.LastIndex != 50 || d.Resume != 51 || d.Floor != 100 || d.Expected == "" || d.Found == "" {
		t.Fatalf("damage is %+v", *d)
	}
	if _, again := wal.Open(o); again == nil || again.Error() != err.Error() {
		t.Fatalf("second open: %v, first: %v", again, err)
	}
}

func TestRepairFencesAndMends(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.Repair = true
	l := open(t, o)
	for i := uint64(1); i <= 100; i++ {
		mustAppend(t, l, wal.Update{Group: 4, State: &wal.State{Term: 2, Vote: 1, Commit: i - 1},
			Entries: entries(4, i, i, 2, 100)},
			wal.Update{Group: 5, Entries: entries(5, i, i, 2, 100)})
	}
	closeLog(t, l)
	flip(t, o, payload(4, 50, 2, 100))
	for range 3 { // the fence survives restarts
		l = open(t, o)
		expectFence(t, l.Group(4), 49, 50, 50, 51, 100)
		if l.Group(5).Damage() != nil {
			t.Fatalf("group 5 is fenced: %v", l.Group(5).Damage())
		}
		expectEntries(t, l.Group(5), entries(5, 1, 100, 2, 100))
		closeLog(t, l)
	}
	l = open(t, o)
	mustAppend(t, l, wal.Update{Group: 4, State: &wal.State{Term: 3, Vote: 0, Commit: 99}})
	expectFence(t, l.Group(4), 49, 50, 50, 51, 100)
	for name, bad := range map[string][]*raftpb.Entry{
		"none": nil, "too short": entries(4, 50, 50, 2, 100), "too early": entries(4, 49, 51, 2, 100),
		"other term": append(entries(4, 50, 50, 2, 100), entry(4, 51, 3, 100)),
	} {
		if err := l.Mend(4, bad); !errors.Is(err, wal.ErrInvalid) {
			t.Errorf("mend with %s: %v", name, err)
		}
	}
	if err := l.Unfence(4); !errors.Is(err, wal.ErrInvalid) {
		t.Errorf("unfence with a hole: %v", err)
	}
	if err := l.Mend(4, entries(4, 50, 51, 2, 100)); err != nil {
		t.Fatal(err)
	}
	o.Repair = false
	for range 3 {
		if d := l.Group(4).Damage(); d != nil {
			t.Fatalf("still fenced: %v", d)
		}
		expectEntries(t, l.Group(4), entries(4, 1, 100, 2, 100))
		l = reopen(t, l, o)
	}
}

func expectFence(t *testing.T, g *wal.Group, last, holeFirst, holeLast, resume, floor uint64) {
	t.Helper()
	d := g.Damage()
	if d == nil {
		t.Fatal("group is not fenced")
	}
	if g.LastIndex() != last || d.FirstIndex != holeFirst || d.LastIndex != holeLast ||
		d.Resume != resume || d.Floor != floor {
		t.Fatalf("last index %d, damage %+v", g.LastIndex(), *d)
	}
}

// TestLostTailIsFenced removes the newest segment after a clean close.
func TestLostTailIsFenced(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l := open(t, o)
	n := uint64(100)
	appendEach(t, l, 4, 1, n, 2, 100)
	newest, _ := find(t, o, payload(4, n, 2, 100))
	for first, _ := find(t, o, payload(4, n-5, 2, 100)); first != newest; {
		n++ // the newest segment shall have a handful of entries
		appendEach(t, l, 4, n, n, 2, 100)
		newest, _ = find(t, o, payload(4, n, 2, 100))
		first, _ = find(t, o, payload(4, n-5, 2, 100))
	}
	closeLog(t, l)
	if err := fs.Remove(filepath.Join(o.Dir, newest)); err != nil {
		t.Fatal(err)
	}
	_, err := wal.Open(o)
	if d := expectDamage(t, err); d.File != newest || d.Floor != n || d.LastIndex != n {
		t.Fatalf("damage is %+v", *d)
	}
	o.Repair = true
	l = open(t, o)
	last := l.Group(4).LastIndex()
	expectFence(t, l.Group(4), last, last+1, n, 0, n)
	if s := l.Group(4).State(); s != (wal.State{Term: 2, Vote: 1, Commit: n - 1}) {
		t.Fatalf("state is %+v", s)
	}
	l = reopen(t, l, o)
	expectFence(t, l.Group(4), last, last+1, n, 0, n)
	mustAppend(t, l, wal.Update{Group: 4, Entries: entries(4, last+1, last+2, 2, 100)})
	expectFence(t, l.Group(4), last+2, last+3, n, 0, n)
	if err := l.Mend(4, entries(4, last+3, n+1, 2, 100)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if d := l.Group(4).Damage(); d != nil {
			t.Fatalf("still fenced: %v", d)
		}
		expectEntries(t, l.Group(4), entries(4, 1, n+1, 2, 100))
		l = reopen(t, l, o)
	}
}

// The floor is a lower bound of what a group has acknowledged, so a mark beyond it proves nothing:
// only the caller knows when the group is whole.
func TestMarkDoesNotLiftTheFence(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.Repair = true
	l := open(t, o)
	appendEach(t, l, 4, 1, 100, 2, 100)
	closeLog(t, l)
	flip(t, o, payload(4, 50, 2, 100))
	l = open(t, o)
	mustAppend(t, l, wal.Update{Group: 4, Mark: &wal.Mark{Index: 200, Term: 2}})
	for range 2 {
		if l.Group(4).Damage() == nil {
			t.Fatal("a mark has lifted the fence")
		}
		l = reopen(t, l, o)
	}
	if err := l.Unfence(4); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if d := l.Group(4).Damage(); d != nil {
			t.Fatalf("still fenced: %v", d)
		}
		l = reopen(t, l, o)
	}
}

// TestGroupMadeAnewAfterCrash removes a group and makes it anew with a crash behind each step, so
// that its removal and its new life begin in segments of which only the head counts.
func TestGroupMadeAnewAfterCrash(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l := open(t, o)
	mustAppend(t, l, wal.Update{Group: 1, Mark: &wal.Mark{Index: 10, Term: 3},
		Entries: entries(1, 11, 15, 3, 50)})
	mustAppend(t, l, wal.Update{Group: 2, Entries: entries(2, 1, 1, 1, 50)})
	if err := l.RemoveGroup(1); err != nil {
		t.Fatal(err)
	}
	crash(fs, l)
	l = open(t, o)
	mustAppend(t, l, wal.Update{Group: 1, Entries: entries(1, 1, 2, 9, 50)})
	for range 3 {
		crash(fs, l)
		l = open(t, o)
		expectEntries(t, l.Group(1), entries(1, 1, 2, 9, 50))
		if m := l.Group(1).Mark(); m.Index != 0 {
			t.Fatalf("mark is %+v", m)
		}
	}
}

// TestModel runs random calls against the log and a naive model, with restarts and kills between.
func TestModel(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runModel(t, seed) })
	}
}

type modelGroup struct {
	base, baseTerm uint64
	entries        []*raftpb.Entry
	state          wal.State
}

func (m *modelGroup) last() uint64 { return m.base + uint64(len(m.entries)) }

func runModel(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	fs := vfs.NewMem()
	o := testOptions(fs)
	o.SegmentBytes = 4 << 10

	o.Inline = seed%4 != 0
	o.CacheBytes = int64(rnd.IntN(20_000))
	l := open(t, o)
	model := map[uint64]*modelGroup{}
	term := uint64(1)
	for range 400 {
		id := 1 + rnd.Uint64N(4)
		m := model[id]
		if m == nil {
			m = &modelGroup{}
		}
		switch k := rnd.IntN(100); {
		case k < 70:
			term += rnd.Uint64N(2)
			u := wal.Update{Group: id}
			if rnd.IntN(3) > 0 {
				m.state = wal.State{Term: term, Vote: 1 + term%4, Commit: m.state.Commit}
				u.State = new(m.state)
			}
			if rnd.IntN(4) > 0 || u.State == nil {
				first := m.last() + 1
				if n := len(m.entries); n > 0 && rnd.IntN(5) == 0 {
					first -= rnd.Uint64N(uint64(n) + 1)
				}
				u.Entries = entries(id, first, first+rnd.Uint64N(4), term, rnd.IntN(500))
				m.entries = append(m.entries[:first-m.base-1:first-m.base-1], u.Entries...)
			}
			if err := l.Append([]wal.Update{u}, rnd.IntN(3) > 0); err != nil {
				t.Fatalf("seed %d: append: %v", seed, err)
			}
			model[id] = m
		case k < 80 && len(m.entries) > 0:
			n := 1 + rnd.IntN(len(m.entries))
			m.baseTerm = m.entries[n-1].GetTerm()
			m.base += uint64(n)
			m.entries = m.entries[n:]
			if err := l.Compact(id, m.base); err != nil {
				t.Fatalf("seed %d: compact: %v", seed, err)
			}
		case k < 83:
			m.base, m.baseTerm, m.entries = m.last()+rnd.Uint64N(3), term, nil
			mustAppend(t, l, wal.Update{Group: id, Mark: &wal.Mark{Index: m.base, Term: term}})
			model[id] = m
		case k < 85:
			if err := l.RemoveGroup(id); err != nil {
				t.Fatal(err)
			}
			delete(model, id)
		case k < 90:
			l = reopen(t, l, o)
		case k < 95:
			crash(fs, l)
			l = open(t, o)
		}
		checkModel(t, seed, l, model)
	}
	closeLog(t, l)
	if n := fs.OpenHandles(); n != 0 {
		t.Fatalf("seed %d: %d files are open", seed, n)
	}
}

func checkModel(t *testing.T, seed uint64, l *wal.Log, model map[uint64]*modelGroup) {
	t.Helper()
	if ids := l.Groups(); len(ids) != len(model) {
		t.Fatalf("seed %d: groups are %v, want %d", seed, ids, len(model))
	}
	for id, m := range model {
		g := l.Group(id)
		if g.State() != m.state || g.Mark().Index != m.base || g.Mark().Term != m.baseTerm {
			t.Fatalf("seed %d: group %d: state %+v mark %+v, want %+v", seed, id, g.State(), g.Mark(), m)
		}
		expectEntries(t, g, m.entries)
	}
}
