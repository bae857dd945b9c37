package torture

import (
	"math/rand/v2"
	"testing"
)

// However the operations end, no key gets more than the checker can bear.
func TestKeysStayWithinTheirBounds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	s := newKeyspace(random)
	type begun struct {
		k *key
		o operation
	}
	var underway []begun
	for range 20_000 {
		if k, o, ok := s.take(user(random.IntN(2))); ok {
			underway = append(underway, begun{k, o})
		}
		for len(underway) > 30 || random.IntN(3) == 0 && len(underway) > 0 {
			i := random.IntN(len(underway))
			b := underway[i]
			underway[i] = underway[len(underway)-1]
			underway = underway[:len(underway)-1]
			b.o.Outcome = []outcome{applied, notApplied, unknown}[random.IntN(3)]
			s.give(b.k, b.o)
		}
	}
	values := map[string]bool{}
	for _, k := range s.all() {
		open := 0
		for _, o := range k.history {
			if o.Outcome == unknown && o.write() {
				open++
				if o.Return != never {
					t.Fatalf("%s: a write of unknown outcome returned at %d", k.name, o.Return)
				}
			}
			if o.Kind == set && values[o.Value] {
				t.Fatalf("%s was written twice", o.Value)
			}
			if o.Kind == set {
				values[o.Value] = true
			}
		}
		if open > unknownMax || len(k.history) > operationsMax || k.underway > concurrentMax {
			t.Fatalf("%s: %d unknown writes, %d operations, %d under way", k.name, open,
				len(k.history), k.underway)
		}
	}
	ok, definite, open := s.counts()
	if ok == 0 || definite == 0 || open == 0 {
		t.Errorf("%d, %d, %d: an outcome is missing", ok, definite, open)
	}
}

func TestTheFirstWriteOfATime(t *testing.T) {
	s := newKeyspace(rand.New(rand.NewPCG(1, 1)))
	k := s.mu.active[0]
	for _, o := range []operation{
		{Kind: set, Outcome: applied, Call: 90, Return: 120},
		{Kind: set, Outcome: unknown, Call: 100, Return: 121},
		{Kind: get, Outcome: applied, Call: 101, Return: 122},
		{Kind: set, Outcome: applied, Call: 103, Return: 140},
		{Kind: set, Outcome: applied, Call: 104, Return: 130},
	} {
		s.give(k, o)
	}
	if at, ok := s.firstWrite(100); !ok || at != 130 {
		t.Errorf("got %d, %v, want the one that returned at 130", at, ok)
	}
	if at, ok := s.firstWrite(105); ok {
		t.Errorf("got %d for a time after which no write began", at)
	}
}
