package apply_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
)

// TestCatalog holds the catalog against a model: sets of ids that exist and that were removed.
func TestCatalog(t *testing.T) {
	s := keep()
	rng := rand.New(rand.NewPCG(1, 2))
	exist, removed := map[uint64]bool{}, map[uint64]bool{}
	for step := range 3000 {
		id := 2 + rng.Uint64N(60)
		if rng.IntN(2) == 0 {
			var want error
			switch {
			case exist[id]:
				want = apply.ErrGroupExists
			case removed[id]:
				want = apply.ErrGroupRemoved
			}
			check(t, s, apply.CreateGroup(id, uint64(step), nil), want)
			exist[id] = want == nil || exist[id]
		} else {
			var want error
			if !exist[id] && !removed[id] {
				want = apply.ErrNoGroup
			}
			check(t, s, apply.RemoveGroup(id), want)
			if exist[id] {
				delete(exist, id)
				removed[id] = true
			}
		}
		c := s.Catalog()
		if len(c.Groups()) != count(exist) {
			t.Fatalf("step %d: %d groups, want %d", step, len(c.Groups()), count(exist))
		}
		for id := range uint64(70) {
			if _, ok := c.Group(id); ok != exist[id] || c.Removed(id) != removed[id] {
				t.Fatalf("step %d: group %d exists: %v, removed: %v", step, id, ok, c.Removed(id))
			}
		}
	}
	checkRestored(t, s)
}

func count(set map[uint64]bool) (n int) {
	for _, in := range set {
		if in {
			n++
		}
	}
	return n
}

func check(t *testing.T, s kept, command []byte, want error) {
	t.Helper()
	answers := run(t, s.Stage, s.log.entry(replica.Command{System: true, Data: command}))
	if len(answers) != 1 || answers[0].refusal != nil {
		t.Fatalf("answers %v", answers)
	}
	if err := apply.ParseCatalogAnswer([]byte(answers[0].text)); !errors.Is(err, want) {
		t.Fatalf("answered %v, want %v", err, want)
	}
}

// kept is a stage to which commands of the system are applied one by one.
type kept struct {
	*apply.Stage
	log *log
}

func keep() kept {
	s, l := begun(nothing{})
	return kept{s, l}
}

// checkRestored checks that a snapshot brings the same catalog.
func checkRestored(t *testing.T, s kept) {
	t.Helper()
	again := restored(t, s.Stage, nothing{})
	if !reflect.DeepEqual(again.Catalog(), s.Catalog()) {
		t.Errorf("restored %+v, want %+v", again.Catalog(), s.Catalog())
	}
}

// The founders of a group are the voters of the first one at the entry, and what the command knows
// of them; a command that is repeated with its token creates nothing twice.
func TestFoundersAreTheVoters(t *testing.T) {
	s := keep()
	named := []apply.Founder{{ID: 2, Incarnation: 22}, {ID: 9, Incarnation: 1}}
	command := apply.CreateGroup(7, 99, named)
	check(t, s, command, nil)
	g, ok := s.Catalog().Group(7)
	want := []apply.Founder{{ID: 1}, {ID: 2, Incarnation: 22}, {ID: 3}}
	if !ok || !reflect.DeepEqual(g.Founders, want) || g.Index != 2 {
		t.Errorf("created %+v", g)
	}
	check(t, s, command, nil)
	if again, _ := s.Catalog().Group(7); again.Index != 2 {
		t.Errorf("created again at %d", again.Index)
	}
	check(t, s, apply.CreateGroup(7, 98, nil), apply.ErrGroupExists)
	before := s.Catalog()
	check(t, s, apply.RemoveGroup(7), nil)
	if _, ok := before.Group(7); !ok {
		t.Error("a published catalog has changed")
	}
	check(t, s, apply.RemoveGroup(7), nil)
	check(t, s, command, apply.ErrGroupRemoved)
	checkRestored(t, s)
}

func TestIDsOfGroups(t *testing.T) {
	s := keep()
	for _, id := range []uint64{0, 1, 1<<63 + 1, 1<<64 - 1} {
		check(t, s, apply.CreateGroup(id, 1, nil), apply.ErrGroupID)
	}
	check(t, s, apply.CreateGroup(1<<63, 1, nil), nil)
	check(t, s, apply.RemoveGroup(1), apply.ErrNoGroup)
	for id := uint64(2); id < 2+1<<14-1; id++ {
		check(t, s, apply.CreateGroup(id, 1, nil), nil)
	}
	check(t, s, apply.CreateGroup(1<<40, 1, nil), apply.ErrTooManyGroups)
	check(t, s, apply.RemoveGroup(5), nil)
	check(t, s, apply.CreateGroup(1<<40, 1, nil), nil)
	checkRestored(t, s)
}
