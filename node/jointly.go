package node

import (
	"sync"

	"github.com/connectraft/connect/wal"
)

// joint is updates of groups that begin, which wait to be appended to the log together: a group
// that is new to the log costs a sync and a write that names all groups, so ten thousand that begin
// at once must not come one by one. It is bounded by the groups that begin at a time.
type joint struct {
	sync.Mutex
	waiting []jointUpdate
}

type jointUpdate struct {
	update wal.Update
	result chan error
}

// appendNow has the log writer persist an update, and waits for it.
func (n *Node) appendNow(u wal.Update) error {
	result := make(chan error, 1)
	n.joint.Lock()
	n.joint.waiting = append(n.joint.waiting, jointUpdate{u, result})
	first := len(n.joint.waiting) == 1
	n.joint.Unlock()
	if first {
		n.appender.upkeep.put(n.appendJointly)
	}
	return n.await(result)
}

// appendJointly runs on the log writer. An update that the log refuses must not take the others
// along, so after an error each is tried alone.
func (n *Node) appendJointly() {
	n.joint.Lock()
	waiting := n.joint.waiting
	n.joint.waiting = nil
	n.joint.Unlock()
	for len(waiting) > 0 {
		some := waiting[:min(len(waiting), readiesAtOnce)]
		waiting = waiting[len(some):]
		updates := make([]wal.Update, len(some))
		for i := range some {
			updates[i] = some[i].update
		}
		err := n.wal.Append(updates, true)
		for i := range some {
			if err != nil && len(some) > 1 {
				some[i].result <- n.wal.Append(updates[i:i+1], true)
			} else {
				some[i].result <- err
			}
		}
	}
}
