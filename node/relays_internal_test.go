package node

import (
	"fmt"
	"testing"
)

// A command that was surely not applied, because the node that was asked has no part in the group, is
// not told as one of unknown fate: its asker tries again with another leader.
func TestReplyOfANodeThatIsNoMember(t *testing.T) {
	for _, class := range []error{ErrRemoved, ErrNotAdded, ErrRefused} {
		if code := replyCode(fmt.Errorf("%w: group 1", class)); !leaderless(code) {
			t.Errorf("%v is told as outcome %d", class, code)
		}
	}
	if code := replyCode(unknown(ErrRemoved.Error())); code != replyUnknown {
		t.Errorf("unknown is told as outcome %d", code)
	}
}
