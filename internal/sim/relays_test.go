package sim_test

import (
	"errors"
	"fmt"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/node"
)

// relays is the twin of node/relays.go. Its frames travel as values: their encoding is node's own.
type relays struct {
	p    *process
	next uint64
	out  []forwarded // in the order of their ids
}

type forwarded struct {
	id, to uint64
	g      *group
	calls  []*call
	since  int64
}

// answered is one command's place in a reply.
type answered struct {
	result node.Result
	err    error // of the leader; its class is what travels
}

func newRelays(p *process) *relays { return &relays{p: p, next: p.w.rng.process.Uint64()} }

func (r *relays) forward(g *group, leader uint64, proposals []replica.Proposal) {
	calls := make([]*call, 0, len(proposals))
	for _, p := range proposals {
		c := p.(*call)
		if !c.Take() {
			c.finish(node.Result{}, node.ErrNoLeader)
			continue
		}
		calls = append(calls, c)
	}
	for len(calls) > 0 {
		n, size := 0, 0
		for n < len(calls) &&
			(n == 0 || size+len(calls[n].payload) <= r.p.w.plan.config.entryBytes) {
			size += len(calls[n].payload)
			n++
		}
		if !r.send(g, leader, calls[:n:n]) {
			break
		}
		calls = calls[n:]
	}
	if len(calls) == 0 {
		return
	}
	unsent := make([]replica.Proposal, 0, len(calls))
	for _, c := range calls {
		c.Release()
		unsent = append(unsent, c)
	}
	g.core.Return(unsent)
}

func (r *relays) send(g *group, leader uint64, calls []*call) bool {
	r.next++
	f := forwarded{r.next, leader, g, calls, r.p.w.now}
	r.out = append(r.out, f)
	payload := make([]replica.Command, len(calls))
	for i, c := range calls {
		payload[i] = c.Command()
	}
	from := r.p.h.id
	err := r.p.w.net.sendRequest(r.p, leader, func(p *process) {
		p.relays.accept(p.group(g.id), from, f.id, payload)
	})
	if err == nil {
		return true
	}
	_, mine := r.take(f.id)
	return !mine
}

func (r *relays) take(id uint64) (forwarded, bool) {
	for i, f := range r.out {
		if f.id == id {
			r.out = append(r.out[:i:i], r.out[i+1:]...)
			return f, true
		}
	}
	return forwarded{}, false
}

func (r *relays) lostPeer(peer uint64) {
	r.end(func(f forwarded) bool { return f.to == peer }, "the connection to the leader broke")
}

// expire is relays.expire.
func (r *relays) expire() {
	limit := 10 * int64(r.p.w.plan.config.electionTime())
	r.end(func(f forwarded) bool { return r.p.w.now-f.since > limit }, "the leader did not reply")
}

func (r *relays) end(which func(forwarded) bool, why string) {
	if len(r.out) == 0 {
		return
	}
	var kept, ended []forwarded
	for _, f := range r.out {
		if which(f) {
			ended = append(ended, f)
		} else {
			kept = append(kept, f)
		}
	}
	r.out = kept
	for _, f := range ended {
		for _, c := range f.calls {
			if r.p.w.is(retryUnknown) {
				c.Release()
				f.g.retry([]replica.Proposal{c})
				continue
			}
			c.finish(node.Result{}, unknown(why))
		}
	}
}

func (r *relays) reply(id uint64, answers []answered) {
	f, ok := r.take(id)
	if !ok {
		return
	}
	var again []replica.Proposal
	for i, c := range f.calls {
		a := answers[i]
		switch {
		case a.err == nil:
			c.finish(a.result, nil)
		case c.retry && (leaderless(a.err) || class(a.err) == node.ErrOverloaded):
			c.Release()
			again = append(again, c)
		case leaderless(a.err):
			c.finish(node.Result{}, &node.NotLeaderError{Leader: f.g.lead})
		default:
			c.finish(node.Result{}, fmt.Errorf("%w (leader: %w)", class(a.err), a.err))
		}
	}
	f.g.retry(again)
}

// leaderless is leaderless of node/relays.go.
func leaderless(err error) bool {
	if _, ok := errors.AsType[*node.NotLeaderError](err); ok || errors.Is(err, node.ErrRemoved) {
		return true
	}
	switch class(err) {
	case node.ErrNoLeader, node.ErrClosed, node.ErrGroupFailed:
		return true
	}
	return false
}

// class is what a reply tells of an error: replyCode and replyErrors.
func class(err error) error {
	for _, class := range []error{node.ErrUnknown, node.ErrOverloaded, node.ErrTooLarge,
		node.ErrDiskFull, node.ErrClosed, node.ErrGroupFailed, node.ErrNoLeader,
		node.ErrSessionExpired, node.ErrSequenceTooOld, node.ErrSessionFull} {
		if errors.Is(err, class) {
			return class
		}
	}
	return node.ErrUnknown
}

func (g *group) retry(calls []replica.Proposal) {
	if len(calls) == 0 {
		return
	}
	g.post(func(in *contents) { in.retries = append(in.retries, calls...) })
}

// relay collects the ends of the commands of one forward frame on the leader.
type relay struct {
	g     *group
	to    uint64
	id    uint64
	calls []*call
	left  int
}

func (r *relays) accept(g *group, from, id uint64, commands []replica.Command) {
	answer := &relay{g: g, to: from, id: id, left: len(commands)}
	answer.calls = make([]*call, len(commands))
	for i := range commands {
		c := commands[i]
		answer.calls[i] = &call{g: g, payload: c.Data, system: c.System, relay: answer}
		if c.Session != 0 {
			answer.calls[i].place = &inSession{session: c.Session, sequence: c.Sequence, acked: c.Acked}
		}
	}
	proposals := make([]replica.Proposal, 0, len(commands))
	for _, c := range answer.calls {
		if err := g.admit(c, true); err != nil {
			c.end(node.Result{}, err)
			continue
		}
		proposals = append(proposals, c)
	}
	if len(proposals) > 0 {
		g.post(func(in *contents) { in.calls = append(in.calls, proposals...) })
	}
}

func (a *relay) finished() {
	a.left--
	if a.left > 0 {
		return
	}
	answers := make([]answered, len(a.calls))
	for i, c := range a.calls {
		answers[i] = answered{c.result, c.err}
	}
	// A reply that is not sent is lost; the asker learns of the lost connection.
	_ = a.g.w.net.sendRequest(a.g.p, a.to, func(p *process) { p.relays.reply(a.id, answers) })
}
