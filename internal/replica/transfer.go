package replica

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// Errors of a transfer of the leadership.
var (
	// ErrTransferPending: another transfer is under way, or its end was not handed out yet; or a new
	// leader has not applied an entry of its term, and does not know yet that the target has a vote.
	ErrTransferPending = errors.New("replica: a transfer of the leadership is under way")
	// ErrTransferTarget: the target has no vote, or leads already.
	ErrTransferTarget = errors.New("replica: the leadership cannot be transferred there")
	// ErrTransferFailed: the target did not take over.
	ErrTransferFailed = errors.New("replica: the leadership was not taken over")
)

// TransferEnd says how a transfer of the leadership ended: Err is nil when To leads.
type TransferEnd struct {
	To  uint64
	Err error
}

// transfer is the one under way; to is 0 when there is none.
type transfer struct {
	to    uint64
	ticks int
}

// Transfer asks a voter to take over the leadership. It refuses at once what cannot be; how it ends
// comes as Ready.Transferred, within two election timeouts. Commands rest meanwhile.
func (r *Replica) Transfer(to uint64) error {
	status := r.rn.BasicStatus()
	if status.RaftState != raft.StateLeader {
		return ErrNotLeader
	}
	if r.transfer.to != raft.None || status.LeadTransferee != raft.None || r.out.Transferred != nil {
		return ErrTransferPending
	}
	votes := slices.Contains(r.members.state.GetVoters(), to)
	if !votes && r.members.applied.term != status.GetTerm() {
		return ErrTransferPending
	}
	if !votes || to == r.config.ID {
		return fmt.Errorf("%w: node %d", ErrTransferTarget, to)
	}
	r.transfer = transfer{to: to}
	r.reads.revoke()
	r.rn.TransferLeader(to)
	return nil
}

// HandOver transfers the leadership to the voter that is closest behind, and returns it; 0 when this
// replica does not lead or nobody can take over now.
func (r *Replica) HandOver() (to uint64) {
	best := uint64(0)
	r.rn.WithProgress(func(id uint64, kind raft.ProgressType, p tracker.Progress) {
		if id == r.config.ID || kind != raft.ProgressTypePeer || !p.RecentActive ||
			p.State == tracker.StateSnapshot {
			return
		}
		if to == 0 || p.Match > best {
			to, best = id, p.Match
		}
	})
	if to == 0 || r.Transfer(to) != nil {
		return 0
	}
	return to
}

// tickTransfer counts the age of the transfer under way.
func (r *Replica) tickTransfer() {
	if r.transfer.to != raft.None {
		r.transfer.ticks++
		r.endTransfer()
	}
}

// endTransfer notes the end of the transfer under way: another node leads, raft has given up, or
// nobody leads for long.
func (r *Replica) endTransfer() {
	to := r.transfer.to
	if to == raft.None {
		return
	}
	end := &TransferEnd{To: to}
	status := r.rn.BasicStatus()
	switch leader := status.Lead; {
	case leader == to:
	case status.RaftState == raft.StateLeader && status.LeadTransferee == to:
		return
	case leader == r.config.ID:
		end.Err = fmt.Errorf("%w: node %d did not answer within an election timeout",
			ErrTransferFailed, to)
	case leader != raft.None:
		end.Err = fmt.Errorf("%w: node %d leads", ErrTransferFailed, leader)
	case r.transfer.ticks >= 2*r.config.ElectionTicks:
		end.Err = fmt.Errorf("%w: nobody leads", ErrTransferFailed)
	default:
		return
	}
	r.transfer, r.out.Transferred = transfer{}, end
}
