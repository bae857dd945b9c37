package torture

import "testing"

// Each step is an answer to a command of one connection; a read says which numbers were sent before.
func TestPipelinedAnswers(t *testing.T) {
	ok := func(n int) func(*pipeliner) {
		return func(p *pipeliner) { p.judge(command{n, n}, reply{text: "OK"}) }
	}
	fails := func(n int, text string) func(*pipeliner) {
		return func(p *pipeliner) { p.judge(command{n, n}, reply{failed: text}) }
	}
	reads := func(text string, before int) func(*pipeliner) {
		return func(p *pipeliner) {
			p.judge(command{0, before}, reply{text: text, absent: text == ""})
		}
	}
	tests := []struct {
		name  string
		steps []func(*pipeliner)
		wrong bool
	}{
		{"its own write", []func(*pipeliner){ok(1), reads("1", 1)}, false},
		{"nothing yet", []func(*pipeliner){reads("", 0), ok(1)}, false},
		{"an older write", []func(*pipeliner){ok(1), ok(2), reads("1", 2)}, true},
		{"nothing after a write", []func(*pipeliner){ok(1), reads("", 1)}, true},
		{"a later write", []func(*pipeliner){ok(1), reads("2", 1), ok(2)}, true},
		{"an unknown write", []func(*pipeliner){ok(1), fails(2, "UNKNOWN"), reads("2", 2)}, false},
		{"not an unknown write", []func(*pipeliner){ok(1), fails(2, "UNKNOWN"), reads("1", 2)}, false},
		{"an unknown write that goes again",
			[]func(*pipeliner){ok(1), fails(2, "UNKNOWN"), reads("2", 2), reads("1", 2)}, true},
		{"an unknown write behind a later one",
			[]func(*pipeliner){fails(1, "UNKNOWN"), ok(2), reads("1", 2)}, true},
		{"a refused write", []func(*pipeliner){ok(1), fails(2, "NOTLEADER"), reads("2", 2)}, true},
		{"an error of the service", []func(*pipeliner){fails(1, "ERR syntax error")}, true},
		{"no number", []func(*pipeliner){ok(1), reads("x", 1)}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := &pipeliner{node: &process{}, findings: &findings{}, refused: map[int]bool{}}
			for _, step := range test.steps {
				step(p)
			}
			if got := p.findings.verdict(); (got == Violation) != test.wrong {
				violations, _ := p.findings.lists()
				t.Errorf("%v: %q", got, violations)
			}
		})
	}
}
