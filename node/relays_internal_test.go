package node

import (
	"fmt"
	"log/slog"
	"net"
	"testing"

	"github.com/connectraft/connect/transport"
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

// The loss of the leader ends commands while they are being forwarded, and their memory serves others
// from then on: what is sent to the leader is not read from it any more.
func TestForwardedCommandsEndWhileTheyAreSent(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{log: slog.New(slog.DiscardHandler)}
	n.transport, err = transport.New(transport.Options{ClusterID: "one", NodeID: 1, Incarnation: 1,
		Address: listener.Addr().String(), Listener: listener, Handler: handler{n}, Logger: n.log})
	if err != nil {
		t.Fatal(err)
	}
	defer n.transport.Close()
	n.relays = newRelays(n)
	g := &Group{id: 1, node: n}
	g.admission.node = new(gate)
	payload := make([]byte, 1<<20)
	for range 20 {
		c := newCall(g, payload)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = c.Wait(t.Context())
			c.recycle()
		}()
		sent := make(chan bool)
		go func() { sent <- n.relays.send(g, 2, []*Call{c}, len(payload)) }()
		for left := false; !left; {
			n.relays.lost(2)
			select {
			case <-ended:
				if !<-sent {
					t.Error("calls that have ended are the caller's again")
				}
				left = true
			case taken := <-sent:
				if !taken { // nobody was faster
					c.finish(Result{}, ErrNoLeader)
				}
				<-ended
				left = true
			default:
			}
		}
	}
}
