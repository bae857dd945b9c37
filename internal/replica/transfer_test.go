package replica_test

import (
	"errors"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

func TestTransferEnds(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	must(t, c.cores[1].Transfer(3))
	if err := c.cores[1].Transfer(2); !errors.Is(err, replica.ErrTransferPending) {
		t.Errorf("a second transfer: %v", err)
	}
	c.settle()
	if len(c.transferred) != 1 || c.transferred[0] != (replica.TransferEnd{To: 3}) {
		t.Errorf("transfers: %v", c.transferred)
	}
	if got := c.cores[1].Status().Leader; got != 3 {
		t.Errorf("leader %d", got)
	}
	if err := c.cores[1].Transfer(2); !errors.Is(err, replica.ErrNotLeader) {
		t.Errorf("a follower's transfer: %v", err)
	}
	for _, to := range []uint64{3, 9} {
		if err := c.cores[3].Transfer(to); !errors.Is(err, replica.ErrTransferTarget) {
			t.Errorf("transfer to %d: %v", to, err)
		}
	}
}

// Commands rest while a transfer is under way, and go on when the target does not answer.
func TestTransferThatFails(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.cut[3] = true
	must(t, c.cores[1].Transfer(3))
	p := &command{data: "a"}
	c.cores[1].Propose(proposals(p))
	c.settle()
	if c.done[p] != 0 || len(c.transferred) != 0 {
		t.Fatalf("before the end: done %d, transfers %v", c.done[p], c.transferred)
	}
	for range 10 {
		c.tick()
	}
	if len(c.transferred) != 1 || !errors.Is(c.transferred[0].Err, replica.ErrTransferFailed) {
		t.Errorf("transfers: %v", c.transferred)
	}
	if c.done[p] == 0 {
		t.Error("the command still rests")
	}
}

// The end of a transfer is told before the next one begins: with two under way it would not be known
// whose it is.
func TestTransferWaitsForTheEndOfAnother(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.cut[3] = true
	must(t, c.cores[1].Transfer(3))
	c.settle()
	for range 10 {
		c.cores[1].Tick()
	}
	if err := c.cores[1].Transfer(2); !errors.Is(err, replica.ErrTransferPending) {
		t.Fatalf("before the end of another is handed out: %v", err)
	}
	c.settle()
	if len(c.transferred) != 1 || c.transferred[0].To != 3 || c.transferred[0].Err == nil {
		t.Fatalf("transfers: %v", c.transferred)
	}
	must(t, c.cores[1].Transfer(2))
	c.settle()
	if len(c.transferred) != 2 || c.transferred[1] != (replica.TransferEnd{To: 2}) {
		t.Errorf("transfers: %v", c.transferred)
	}
}

// A new leader may not know yet who has a vote: what the one before it has told may be in its log and
// not applied. It refuses nobody for that.
func TestNewLeaderDoesNotKnowWhoHasAVote(t *testing.T) {
	c := newCluster(t)
	c.hold = func(m *pb.Message) bool { return m.GetType() == pb.MsgAppResp }
	c.elect(1)
	if err := c.cores[1].Transfer(4); !errors.Is(err, replica.ErrTransferPending) {
		t.Errorf("before an entry of its term is applied: %v", err)
	}
	c.hold = nil
	c.tick()
	c.tick()
	if err := c.cores[1].Transfer(4); !errors.Is(err, replica.ErrTransferTarget) {
		t.Errorf("behind it: %v", err)
	}
}
