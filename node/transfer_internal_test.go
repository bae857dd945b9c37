package node

import (
	"errors"
	"testing"
)

// Whoever waits for a transfer gets the end of that one, whatever the others in the list get.
func TestTransferEndsForWhoAskedForIt(t *testing.T) {
	wait := func(to uint64) *transferWait {
		return &transferWait{to: to, done: make(chan error, 1)}
	}
	other, asked, again := wait(2), wait(3), wait(3)
	g := &Group{}
	g.members.transfers = []*transferWait{other, asked, again}
	g.endTransfers(3, nil)
	if err := <-other.done; !errors.Is(err, ErrTransferFailed) {
		t.Errorf("the transfer to another node ended with %v, want ErrTransferFailed", err)
	}
	for _, w := range []*transferWait{asked, again} {
		if err := <-w.done; err != nil {
			t.Errorf("the transfer that succeeded ended with %v", err)
		}
	}
	if len(g.members.transfers) != 0 {
		t.Errorf("%d still wait", len(g.members.transfers))
	}
}
