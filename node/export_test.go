package node

import (
	"sync"

	"github.com/connectraft/connect/internal/replica"
)

// PanicInLoop makes the event loop panic in a turn of g.
func PanicInLoop(g *Group) {
	g.post(func(in *contents) {
		in.events = append(in.events, func(*replica.Replica) { panic("as asked") })
	})
}

// Waiting returns how many callers wait for room in g.
func Waiting(g *Group) int64 { return g.admission.group.waiting.Load() }

// HoldLog stops the log writer of n until the returned function is called.
func HoldLog(n *Node) (release func()) {
	held, done := make(chan struct{}), make(chan struct{})
	n.appender.upkeep.put(func() {
		close(held)
		<-done
	})
	<-held
	return sync.OnceFunc(func() { close(done) })
}

// BreakLog has every append from now on fail.
func BreakLog(n *Node) {
	_ = n.onLog(func() error { return n.wal.Close() })
}

// Ticks returns how often the clock of a node has ticked.
func Ticks(n *Node) int64 { return n.pulse.now.Load() }

// LoggedGroups returns the groups that the log has something of.
func LoggedGroups(n *Node) []uint64 { return n.wal.Groups() }

// ForgetNothing makes every further removal of a group stop before the log has forgotten it.
func ForgetNothing(n *Node) { n.keeper.forget = func(uint64) error { return ErrClosed } }

// ForgetReady makes g what it was before its first read was answered.
func ForgetReady(g *Group) {
	done := make(chan struct{})
	g.post(func(in *contents) {
		in.events = append(in.events, func(core *replica.Replica) {
			g.caughtUp.Store(false)
			core.Read([]replica.Read{probe{g}})
			close(done)
		})
	})
	<-done
}
