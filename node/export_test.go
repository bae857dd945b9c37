package node

import "github.com/connectraft/connect/internal/replica"

// PanicInLoop makes the event loop panic in a turn of g.
func PanicInLoop(g *Group) {
	g.post(func(in *contents) {
		in.events = append(in.events, func(*replica.Replica) { panic("as asked") })
	})
}

// Waiting returns how many callers wait for room in g.
func Waiting(g *Group) int64 { return g.admission.group.waiting.Load() }
