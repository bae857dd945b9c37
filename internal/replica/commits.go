package replica

import (
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"
)

// commits holds back messages that bring a peer nothing but a newer commit index. Raft sends one to
// each peer whenever an entry commits, and each costs an answer, while under load the next entry
// carries the index just as well. So such a message waits until one with entries takes its place,
// until Flush, or until the next tick. To the peer it is a message that was late or lost, which raft
// bears: heartbeats carry commit indexes too.
type commits struct {
	held []*pb.Message // at most one for each peer
}

// pass reports whether m is to be sent now; else it is held back.
func (c *commits) pass(m *pb.Message) bool {
	if m.GetType() != pb.MsgApp {
		return true
	}
	at := slices.IndexFunc(c.held, func(h *pb.Message) bool { return h.GetTo() == m.GetTo() })
	if len(m.Entries) > 0 {
		if at >= 0 {
			c.held = slices.Delete(c.held, at, at+1)
		}
		return true
	}
	if at >= 0 {
		c.held[at] = m
	} else {
		c.held = append(c.held, m)
	}
	return false
}

// Holding reports whether messages are held back that Flush would send.
func (r *Replica) Holding() bool { return len(r.commits.held) > 0 }

// Flush puts what is held back into the next Ready.
func (r *Replica) Flush() {
	r.out.Messages = append(r.out.Messages, r.commits.held...)
	clear(r.commits.held)
	r.commits.held = r.commits.held[:0]
}
