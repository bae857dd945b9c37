package node

import "github.com/connectraft/connect/internal/replica"

// PanicInLoop makes the event loop panic in a turn of g.
func PanicInLoop(g *Group) {
	g.post(func(in *contents) {
		in.events = append(in.events, func(*replica.Replica) { panic("as asked") })
	})
}
