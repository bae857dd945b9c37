package torture

import (
	"context"
	"time"

	"github.com/connectraft/connect/client"
)

// beacon increments a counter through one node and waits for the answer a moment only. So something is
// acknowledged as soon as there is a new leader, when all others still wait for an old one, which
// must not answer from its past. How many increments are unknown does not matter.
type beacon struct {
	client   *client.Client
	patience time.Duration
}

func (b *beacon) via() string { return viaBeacon }
func (b *beacon) close()      {} // the workload closes the client

func (b *beacon) do(o *operation, words []string) (reply, outcome, string) {
	ctx, cancel := context.WithTimeout(context.Background(), b.patience)
	defer cancel()
	// A fresh Group asks the node itself, which passes the command on, and not the old leader.
	result, err := b.client.Group(1).Write(ctx, client.Command(words[0], words[1:]...))
	return conclude(o, result, err)
}
