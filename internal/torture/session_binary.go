package torture

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/connectraft/connect/client"
)

// watchTimeout is how long a read of a watcher waits at least. How long it waits at most is drawn, so
// that some begin late in a pause of their node and are answered at its end.
const watchTimeout = 50 * time.Millisecond

const (
	viaSession = "session"
	viaWatcher = "watcher"
	viaBeacon  = "beacon"
)

// sessionTimeout is after how long a write in a session must have an outcome. Nothing is broken for
// so long that the cluster does not serve in between.
const sessionTimeout = 2 * settleTime

// binarySession writes in a session of package client, which repeats a write until its outcome is
// known, and reads; without a session it watches one node.
type binarySession struct {
	run      context.Context // of the run, which may be ended early
	client   *client.Client
	session  *client.Session // which others use at the same time; nil = it only reads
	levels   []level         // of the reads of a watcher
	random   *rand.Rand
	newest   *atomic.Int64 // the newest index that any client knows of
	findings *findings
}

func (s *binarySession) via() string {
	if s.session == nil {
		return viaWatcher
	}
	return viaSession
}

func (s *binarySession) close() {} // the workload closes the client

func (s *binarySession) do(o *operation, words []string) (reply, outcome, string) {
	var result client.Result
	var err error
	if o.write() {
		result, err = s.write(client.Command(words[0], words[1:]...))
	} else {
		result, err = s.read(o, client.Command(words[0], words[1:]...))
	}
	if err == nil {
		s.saw(int64(result.Index))
	}
	return conclude(o, result, err)
}

// saw lets the watchers ask for what is as new as an index.
func (s *binarySession) saw(index int64) {
	for known := s.newest.Load(); index > known && !s.newest.CompareAndSwap(known, index); {
		known = s.newest.Load()
	}
}

// conclude tells what a call of package client has come to, and notes where its answer stands.
func conclude(o *operation, result client.Result, err error) (reply, outcome, string) {
	switch {
	case errors.Is(err, client.ErrUnknown):
		return reply{}, unknown, err.Error()
	case err != nil:
		return reply{}, notApplied, err.Error()
	}
	o.Index = int64(result.Index)
	r, err := parseReply(result.Answer)
	if err != nil {
		return reply{failed: err.Error()}, applied, err.Error()
	}
	return r, applied, r.failed
}

// write has a command applied exactly once. Whatever happens meanwhile, it is done in the end.
func (s *binarySession) write(command []byte) (client.Result, error) {
	ctx, cancel := context.WithTimeout(s.run, sessionTimeout)
	defer cancel()
	result, err := s.session.Do(ctx, command)
	if err != nil && s.run.Err() == nil {
		s.findings.violation("a write in a session has no answer within %v: %v", sessionTimeout, err)
	}
	return result, err
}

// read draws a level and reads at it: one that reflects all that was acknowledged, but for a watcher,
// which uses all.
func (s *binarySession) read(o *operation, query []byte) (client.Result, error) {
	limit, asked := operationTimeout, client.Linearizable
	if o.Level = levels[s.random.IntN(2)]; s.session == nil {
		o.Level = s.levels[s.random.IntN(len(s.levels))]
		limit = watchTimeout + rand.N(operationTimeout)
	}
	switch o.Level {
	case leased:
		asked = client.Lease
	case staleLevel:
		age := time.Duration(1+s.random.IntN(1<<(3+s.random.IntN(9)))) * time.Millisecond
		o.Bound, asked = int64(age), client.Stale(age)
	case localLevel:
		asked = client.Stale(0)
	case atLeast:
		o.Bound = s.newest.Load()
		asked = client.AtLeast(uint64(o.Bound))
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return s.client.Group(1).Read(ctx, query, asked)
}
