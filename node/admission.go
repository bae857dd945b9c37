package node

import "sync/atomic"

// admission bounds what a group has accepted and not finished, in commands and in bytes.
type admission struct {
	commandsMax, bytesMax int64
	commands, bytes       atomic.Int64
}

// enter admits a command of n bytes or says that there is no room. One command always fits an
// empty group.
func (a *admission) enter(n int) bool {
	commands, bytes := a.commands.Add(1), a.bytes.Add(int64(n))
	if commands <= a.commandsMax && (bytes <= a.bytesMax || commands == 1) {
		return true
	}
	a.leave(n)
	return false
}

func (a *admission) leave(n int) {
	a.commands.Add(-1)
	a.bytes.Add(-int64(n))
}
