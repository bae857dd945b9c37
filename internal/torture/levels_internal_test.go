package torture

import (
	"strings"
	"testing"
)

// written is two increments, acknowledged at 2 and 4, the second of index 20.
func written() []operation {
	return []operation{
		{Kind: incr, Value: "1", Call: 1, Return: 2, Index: 10, Outcome: applied},
		{Kind: incr, Value: "2", Call: 3, Return: 4, Index: 20, Outcome: applied},
	}
}

func TestReadsAreJudgedByTheirLevel(t *testing.T) {
	tests := []struct {
		name  string
		read  operation
		wrong string // part of the violation; empty: none
	}{
		{"fresh", operation{Value: "2", Call: 5, Return: 6, Index: 20}, ""},
		{"before an acknowledgement", operation{Value: "1", Call: 3, Return: 6, Index: 10}, ""},
		{"stale", operation{Value: "1", Call: 5, Return: 6, Index: 10}, "at least 2"},
		{"stale on a lease", operation{Level: leased, Value: "1", Call: 5, Return: 6, Index: 10},
			"(lease)"},
		{"as stale as it may be", operation{Level: staleLevel, Bound: 3, Value: "1", Call: 7, Return: 8,
			Index: 10}, ""},
		{"too stale", operation{Level: staleLevel, Bound: 2, Value: "1", Call: 7, Return: 8, Index: 10},
			"at least 2"},
		{"of any age", operation{Level: localLevel, Call: 7, Return: 8}, ""},
		{"not of its own index", operation{Level: localLevel, Value: "1", Call: 7, Return: 8, Index: 20},
			"at least 2"},
		{"of the index", operation{Level: atLeast, Bound: 10, Value: "1", Call: 7, Return: 8, Index: 19},
			""},
		{"not of the index", operation{Level: atLeast, Bound: 20, Value: "1", Call: 7, Return: 8},
			"at least 2"},
		{"of an index that is too low", operation{Level: atLeast, Bound: 25, Value: "2", Call: 7,
			Return: 8, Index: 24}, "the index 24"},
		{"of an index below an acknowledged one", operation{Value: "2", Call: 5, Return: 6, Index: 15},
			"15 when 20"},
		{"of an increment that is not acknowledged yet", operation{Value: "2", Call: 3, Return: 4,
			Index: 20}, ""},
		{"of the future", operation{Level: localLevel, Value: "2", Call: 1, Return: 2}, "later"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.read.Kind, test.read.Outcome = get, applied
			k := &key{name: "e1", counter: true, exact: true, history: append(written(), test.read)}
			f := &findings{}
			newLevelCheck([]*key{k}, f).check(k)
			violations, _ := f.lists()
			got := strings.Join(violations, "\n")
			if (got == "") != (test.wrong == "") || !strings.Contains(got, test.wrong) {
				t.Errorf("found %q, want %q", got, test.wrong)
			}
		})
	}
}

// Linearizable reads do not go back, and increments not behind what was read or answered.
func TestCountersDoNotGoBack(t *testing.T) {
	tests := []struct {
		name string
		add  []operation
		want int // violations
	}{
		{"forth", []operation{{Kind: get, Value: "1", Call: 3, Return: 3},
			{Kind: get, Value: "2", Call: 4, Return: 4}}, 0},
		{"reads go back", []operation{{Kind: get, Value: "2", Call: 3, Return: 3},
			{Kind: get, Value: "1", Call: 4, Return: 4}}, 1},
		{"a stale one may", []operation{{Kind: get, Value: "2", Call: 3, Return: 3},
			{Kind: get, Level: localLevel, Value: "1", Call: 4, Return: 4}}, 0},
		{"an increment behind another", []operation{{Kind: incr, Value: "0", Call: 5, Return: 6}}, 1},
	}
	for _, test := range tests {
		for i := range test.add {
			test.add[i].Outcome = applied
		}
		k := &key{name: "e1", counter: true, exact: true, history: append(written(), test.add...)}
		f := &findings{}
		newLevelCheck([]*key{k}, f).check(k)
		if violations, _ := f.lists(); len(violations) != test.want {
			t.Errorf("%s: found %q, want %d", test.name, violations, test.want)
		}
	}
}

// A run without reads of a level proves nothing about it.
func TestLevelsHaveToBeRead(t *testing.T) {
	f := &findings{}
	checkLevels(nil, f)
	if _, doubts := f.lists(); len(doubts) != len(levels) {
		t.Errorf("the doubts are %q, want one for each of %q", doubts, levels)
	}
}
