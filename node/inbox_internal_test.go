package node

import (
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
)

// What is deferred calls for no turn, and for one as soon as that is lifted.
func TestInboxDefers(t *testing.T) {
	ack := []*pb.Message{{}}
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
		{"acknowledgement of an append", deferral{applied: true},
			func(g *Group) bool { return g.postAppended(ack, 0) }, true},
		{"deferred acknowledgement of an append", deferral{appended: true},
			func(g *Group) bool { return g.postAppended(ack, 0) }, false},
		{"acknowledgement of applied entries", deferral{appended: true},
			func(g *Group) bool { return g.postApplied(ack) }, true},
		{"deferred acknowledgement of applied entries", deferral{applied: true},
			func(g *Group) bool { return g.postApplied(ack) }, false},
		{"anything else", deferral{true, true, true, true},
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
			if n := len(in.calls) + len(in.reads) + len(in.acks) + in.appended; n != 1 {
				t.Errorf("the inbox holds %d things, want 1", n)
			}
			if test.post(g) {
				t.Error("the inbox takes something after its end")
			}
		})
	}
}

// Only the answer that names the last commit, while the leader waits for none, calls for no turn.
func TestLateAnswersCallForNoTurn(t *testing.T) {
	answer := func(index uint64) *pb.Message {
		return &pb.Message{Type: pb.MsgAppResp.Enum(), Index: new(index)}
	}
	rejection := answer(7)
	rejection.Reject = new(true)
	for name, test := range map[string]struct {
		settled  uint64
		messages []*pb.Message
		turn     bool
	}{
		"of the last commit":           {7, []*pb.Message{answer(7)}, false},
		"of it, twice":                 {7, []*pb.Message{answer(7), answer(7)}, false},
		"behind it, of one who lags":   {7, []*pb.Message{answer(6)}, true},
		"beyond it":                    {7, []*pb.Message{answer(8)}, true},
		"a rejection":                  {7, []*pb.Message{rejection}, true},
		"beside something else":        {7, []*pb.Message{answer(7), {Type: pb.MsgVote.Enum()}}, true},
		"while the core awaits it":     {0, []*pb.Message{answer(7)}, true},
		"of nothing, while it awaits ": {0, []*pb.Message{answer(0)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := &Group{worker: &worker{wake: make(chan struct{}, 1)}}
			g.settled.Store(test.settled)
			if !g.postMessages(2, test.messages) {
				t.Fatal("the inbox took nothing")
			}
			if got := g.scheduled.Load(); got != test.turn {
				t.Errorf("a turn is due: %v, want %v", got, test.turn)
			}
			if in := g.empty(false); len(in.messages) != len(test.messages) {
				t.Errorf("the inbox holds %d messages", len(in.messages))
			}
		})
	}
}
