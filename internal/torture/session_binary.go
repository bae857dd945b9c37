package torture

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/connectraft/connect/client"
)

const viaSession = "session"

// sessionTimeout is after how long a write in a session must have an outcome. Nothing is broken for
// so long that the cluster does not serve in between.
const sessionTimeout = 2 * settleTime

// binarySession writes in a session of package client, which repeats a write until its outcome is
// known, and reads at all levels.
type binarySession struct {
	group    *client.Group
	session  *client.Session // which others use at the same time
	random   *rand.Rand
	newest   *atomic.Int64 // the newest index that any client knows of
	findings *findings
}

func (s *binarySession) via() string { return viaSession }
func (s *binarySession) close()      {} // the workload closes the client

func (s *binarySession) do(o *operation, words []string) (reply, outcome, string) {
	var result client.Result
	var err error
	if o.write() {
		result, err = s.write(client.Command(words[0], words[1:]...))
	} else {
		result, err = s.read(o, client.Command(words[0], words[1:]...))
	}
	switch {
	case errors.Is(err, client.ErrUnknown):
		return reply{}, unknown, err.Error()
	case err != nil:
		return reply{}, notApplied, err.Error()
	}
	o.Index = int64(result.Index)
	for known := s.newest.Load(); o.Index > known && !s.newest.CompareAndSwap(known, o.Index); {
		known = s.newest.Load()
	}
	r, err := parseReply(result.Answer)
	if err != nil {
		return reply{failed: err.Error()}, applied, err.Error()
	}
	return r, applied, r.failed
}

// write has a command applied exactly once. Whatever happens meanwhile, it is done in the end.
func (s *binarySession) write(command []byte) (client.Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), sessionTimeout)
	defer cancel()
	result, err := s.session.Do(ctx, command)
	if err != nil {
		s.findings.violation("a write in a session has no answer within %v: %v", sessionTimeout, err)
	}
	return result, err
}

// read draws a level and reads at it. On keys that others use it is one without a past.
func (s *binarySession) read(o *operation, query []byte) (client.Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), operationTimeout)
	defer cancel()
	asked := client.Linearizable
	o.Level = s.draw(o.exact)
	switch o.Level {
	case leased:
		asked = client.Lease
	case staleLevel:
		age := time.Duration(1+s.random.IntN(2000)) * time.Millisecond
		o.Bound, asked = int64(age), client.Stale(age)
	case localLevel:
		asked = client.Stale(0)
	case atLeast:
		o.Bound = s.newest.Load()
		asked = client.AtLeast(uint64(o.Bound))
	}
	return s.group.Read(ctx, query, asked)
}

func (s *binarySession) draw(exact bool) level {
	if exact {
		return levels[s.random.IntN(len(levels))]
	}
	return levels[s.random.IntN(2)]
}
