package torture

import (
	"strings"
	"testing"
)

// parse reads operations such as "set a 0 2 ok": kind, value, call, return and outcome. A return of
// x is never, and a value of - is none.
func parse(t *testing.T, lines ...string) (history []operation) {
	t.Helper()
	times := map[string]int64{"x": never}
	for i := range int64(10) {
		times[string(rune('0'+i))] = i
	}
	for i, line := range lines {
		f := strings.Fields(line)
		o := operation{Client: i, Key: "k", Kind: kind(f[0]), Value: strings.Trim(f[1], "-"),
			Call: times[f[2]], Return: times[f[3]], Outcome: outcome(f[4])}
		history = append(history, o)
	}
	return history
}

func TestHistories(t *testing.T) {
	tests := []struct {
		name    string
		counter bool
		history []string
		wrong   string // part of the violation; empty: none
	}{
		{"a read of what was written", false, []string{"set a 0 1 ok", "get a 2 3 ok"}, ""},
		{"a stale read", false, []string{"set a 0 1 ok", "set b 2 3 ok", "get a 4 5 ok"}, "linearizable"},
		{"a lost write", false, []string{"set a 0 1 ok", "get - 2 3 ok"}, "linearizable"},
		{"two reads that go back", false,
			[]string{"set a 0 9 ok", "get a 1 2 ok", "get - 3 4 ok"}, "linearizable"},
		{"a write of unknown outcome may be there", false, []string{"set a 0 x unknown", "get a 2 3 ok"},
			""},
		{"or come late", false, []string{"set a 0 x unknown", "get - 2 3 ok", "get a 4 5 ok"}, ""},
		{"or never", false, []string{"set a 0 x unknown", "get - 2 3 ok"}, ""},
		{"but not go again", false,
			[]string{"set a 0 x unknown", "get a 2 3 ok", "get - 4 5 ok"}, "linearizable"},
		{"a write that was not applied is there", false,
			[]string{"set a 0 1 not", "get a 2 3 ok"}, "linearizable"},
		{"increments count", true,
			[]string{"incr 1 0 1 ok", "incr 2 2 3 ok", "get 2 4 5 ok"}, ""},
		{"an increment is lost", true,
			[]string{"incr 1 0 1 ok", "incr 2 2 3 ok", "get 1 4 5 ok"}, "2 acknowledged"},
		{"an increment counts twice", true, []string{"incr 1 0 1 ok", "get 2 2 3 ok"}, "is at 2"},
		{"two increments get one answer", true,
			[]string{"incr 1 0 9 ok", "incr 1 0 9 ok", "get 2 9 9 ok"}, "two increments"},
		{"an increment of unknown outcome may count", true,
			[]string{"incr - 0 x unknown", "incr 2 2 3 ok", "get 2 4 5 ok"}, ""},
		{"or not", true, []string{"incr - 0 x unknown", "incr 1 2 3 ok", "get 1 4 5 ok"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			k := &key{name: "k", counter: test.counter, history: parse(t, test.history...)}
			f := &findings{}
			checkHistories([]*key{k}, true, t.TempDir(), f)
			violations, doubts := f.lists()
			got := strings.Join(violations, "\n")
			if len(doubts) > 0 || (got == "") != (test.wrong == "") || !strings.Contains(got, test.wrong) {
				t.Errorf("found %q (doubts %q), want %q", got, doubts, test.wrong)
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	f := &findings{}
	if f.verdict() != Valid {
		t.Errorf("nothing found: %v", f.verdict())
	}
	f.doubt("too slow")
	if f.verdict() != Inconclusive {
		t.Errorf("a doubt: %v", f.verdict())
	}
	f.violation("lost")
	if f.verdict() != Violation {
		t.Errorf("a violation and a doubt: %v", f.verdict())
	}
}
