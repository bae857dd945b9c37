package node

import "testing"

// What is deferred calls for no turn, and for one as soon as that is lifted.
func TestInboxDefers(t *testing.T) {
	for _, test := range []struct {
		name   string
		defers deferral
		post   func(*Group) bool
		turn   bool
	}{
		{"command", deferral{}, func(g *Group) bool { return g.postCall(&Call{}) }, true},
		{"deferred command", deferral{calls: true},
			func(g *Group) bool { return g.postCall(&Call{}) }, false},
		{"command while reads are deferred", deferral{reads: true},
			func(g *Group) bool { return g.postCall(&Call{}) }, true},
		{"deferred read", deferral{reads: true},
			func(g *Group) bool { return g.postRead(&Call{level: Linearizable}) }, false},
		{"read that the lease may answer", deferral{reads: true},
			func(g *Group) bool { return g.postRead(&Call{level: Lease}) }, true},
		{"anything else", deferral{calls: true, reads: true},
			func(g *Group) bool { return g.post(func(in *contents) { in.appended++ }) }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &Group{worker: &worker{wake: make(chan struct{}, 1)}}
			g.setDeferral(test.defers)
			if !test.post(g) {
				t.Fatal("the inbox took nothing")
			}
			if got := g.scheduled.Load(); got != test.turn {
				t.Errorf("a turn is due: %v, want %v", got, test.turn)
			}
			g.setDeferral(deferral{})
			if !g.scheduled.Load() {
				t.Error("no turn is due although nothing is deferred")
			}
			in := g.empty(true)
			if n := len(in.calls) + len(in.reads) + in.appended; n != 1 {
				t.Errorf("the inbox holds %d things, want 1", n)
			}
			if test.post(g) {
				t.Error("the inbox takes something after its end")
			}
		})
	}
}
