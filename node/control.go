package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/transport"
)

// What has to be asked of the leader, or of whoever knows, travels in request frames of the
// transport, one hop, and is answered with what became of it:
//
//	control: u64 id │ JSON (controlRequest)
//	answer:  u64 id │ JSON (controlAnswer)
//
// Integers are little endian. Who asks waits for an answer with its id; a request with the id 0 is
// a notice, and is not answered.
const (
	kindControl transport.Kind = 7
	kindAnswer  transport.Kind = 8
)

const (
	controlBytesMax = 256 << 10 // of a request
	controlsAtOnce  = 64        // requests of peers that a node works on at a time
)

// What is asked, in controlRequest.Ask.
const (
	askMembers  = "members"  // who the node knows to be a member; it does not end a rest
	askLook     = "look"     // what the node knows of the members, and of how far they are if it leads
	askChange   = "change"   // make one change of the configuration
	askTransfer = "transfer" // hand the leadership over
	askGone     = "gone"     // a notice: the receiver is not a member any more
	askMoved    = "moved"    // a notice: where members are, as of a version
)

type controlRequest struct {
	Ask     string       `json:"ask"`
	Version uint64       `json:"version,omitempty"` // the change was decided on it
	Steps   []memberStep `json:"steps,omitempty"`
	Members []Member     `json:"members,omitempty"` // what the directory is to say
	To      uint64       `json:"to,omitempty"`
	Now     *Membership  `json:"now,omitempty"` // of a notice
}

// memberStep is one part of a change of the configuration: what an id becomes.
type memberStep struct {
	ID      uint64 `json:"id"`
	Becomes string `json:"becomes"` // one of the following
}

const (
	becomesVoter   = "voter"
	becomesLearner = "learner"
	becomesNothing = "nothing" // leaves
	becomesKnown   = "known"   // stays what it is, and the directory says something else about it
)

type controlAnswer struct {
	Code   string      `json:"code,omitempty"`  // of the error, "" = done
	Error  string      `json:"error,omitempty"` // for people
	Leader uint64      `json:"leader,omitempty"`
	Leads  bool        `json:"leads,omitempty"` // the node that answers: see Group.look
	Now    *Membership `json:"now,omitempty"`
	Since  uint64      `json:"since,omitempty"` // see memberState.since
	// Unplaced is the members whose address the directory does not have: Now has what the options of
	// the node that answers say.
	Unplaced []uint64         `json:"unplaced,omitempty"`
	Members  []memberPosition `json:"members,omitempty"` // of a leader
}

// memberPosition is how far a leader knows a member to be.
type memberPosition struct {
	ID          uint64 `json:"id"`
	Entries     uint64 `json:"entries"` // behind the end of the leader's log
	Bytes       int64  `json:"bytes"`   // of these entries; estimated when they are many
	Match       uint64 `json:"match"`
	Connected   bool   `json:"connected"`
	Replicating bool   `json:"replicating"` // neither probed nor sent a snapshot
	Snapshot    uint64 `json:"snapshot,omitempty"`
}

// controlErrors are the errors that keep their meaning on the way. What has another code may have
// been done. Codes are part of the protocol.
var controlErrors = []struct {
	code string
	err  error
}{
	{"conflict", ErrConflict}, {"pending", ErrChangePending}, {"no quorum", ErrNoQuorum},
	{"invalid", ErrInvalidChange}, {"transfer first", errTransferFirst},
	{"transfer failed", ErrTransferFailed}, {"not leader", errNotLeader}, {"busy", errBusy},
	{"closed", ErrClosed}, {"group failed", ErrGroupFailed}, {"no group", errNoGroup},
	{"unknown", ErrUnknown},
}

// Errors of control requests that callers of the package do not see: they are asked again.
var (
	errNotLeader     = errors.New("node: not the leader")
	errTransferFirst = errors.New("node: the leader must hand over first")
	errBusy          = errors.New("node: too many requests at once")
	errNoGroup       = errors.New("node: the group does not run there")
)

// control is the requests under way, of this node and to it.
type control struct {
	node   *Node
	tokens chan struct{} // one for each request of a peer that is worked on
	mu     struct {
		sync.Mutex
		next uint64
		out  map[uint64]asked
	}
}

type asked struct {
	to     uint64
	answer chan controlAnswer // has room for one
}

func newControl(n *Node) *control {
	c := &control{node: n, tokens: make(chan struct{}, controlsAtOnce)}
	c.mu.next = rand.Uint64() >> 1 // an answer to an earlier life must find nobody
	c.mu.out = map[uint64]asked{}
	return c
}

// patience is how long a request may take: a change waits for an election timeout at most before it
// is proposed, and a transfer for two.
func (c *control) patience() time.Duration {
	return 5 * c.node.electionTimeout()
}

// ask has a node do something and waits for the answer. An error of controlErrors other than
// ErrUnknown, or errNotSent, says that nothing was done.
func (c *control) ask(ctx context.Context, g *Group, to uint64, r controlRequest) (controlAnswer,
	error) {
	ctx, cancel := context.WithTimeout(ctx, c.patience())
	defer cancel()
	if to == c.node.options.ID {
		return c.serve(ctx, g, r)
	}
	id, answered := c.await(to)
	defer c.forget(id)
	if err := c.send(to, g.id, kindControl, id, r); err != nil {
		return controlAnswer{}, fmt.Errorf("%w: node %d cannot be asked: %w", errNotLeader, to, err)
	}
	select {
	case a, ok := <-answered:
		if !ok {
			return a, unknown(fmt.Sprintf("the connection to node %d broke", to))
		}
		return a, a.err(to)
	case <-ctx.Done():
		return controlAnswer{}, unknown(fmt.Sprintf("node %d did not answer", to))
	case <-c.node.stopping:
		return controlAnswer{}, unknown("this node is closing")
	}
}

func (c *control) await(to uint64) (id uint64, answered chan controlAnswer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.next++
	answered = make(chan controlAnswer, 1)
	c.mu.out[c.mu.next] = asked{to, answered}
	return c.mu.next, answered
}

func (c *control) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.mu.out, id)
}

// lost ends the requests to a peer whose stream broke.
func (c *control) lost(peer uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, a := range c.mu.out {
		if a.to == peer {
			delete(c.mu.out, id)
			close(a.answer)
		}
	}
}

func (c *control) send(to, group uint64, kind transport.Kind, id uint64, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	payload := append(binary.LittleEndian.AppendUint64(nil, id), b...)
	return c.node.transport.Send(to, group, kind, payload)
}

// tellGone tells a node that it is not a member any more. It is a courtesy: the transport refuses
// the node afterwards, which tells it the same.
func (c *control) tellGone(g *Group, id uint64, now Membership) {
	if id == c.node.options.ID {
		return
	}
	if err := c.send(id, g.id, kindControl, 0, controlRequest{Ask: askGone, Now: &now}); err != nil {
		g.log.Debug("removed node not told", "peer", id, "err", err)
	}
}

// handle takes a frame of a peer. What it asks for is done on a goroutine of its own.
func (c *control) handle(from, group uint64, kind transport.Kind, payload []byte) error {
	if len(payload) < 8 || len(payload) > controlBytesMax {
		return errFrame
	}
	id, body := binary.LittleEndian.Uint64(payload), payload[8:]
	if kind == kindAnswer {
		return c.answered(from, id, body)
	}
	var r controlRequest
	if err := json.Unmarshal(body, &r); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	g := c.node.Group(group)
	if id == 0 {
		if g != nil && r.Ask == askGone && r.Now != nil {
			g.hearGone(from, r.Now)
		}
		if g != nil && r.Ask == askMoved {
			c.node.roster.hear(from, group, r.Version, r.Members)
		}
		return nil
	}
	select {
	case c.tokens <- struct{}{}:
	default:
		return c.send(from, group, kindAnswer, id, controlAnswerOf(controlAnswer{}, errBusy))
	}
	c.node.background.Go(func() {
		defer func() { <-c.tokens }()
		ctx, cancel := context.WithTimeout(c.node.ctx, c.patience())
		defer cancel()
		a, err := c.serve(ctx, g, r)
		if err := c.send(from, group, kindAnswer, id, controlAnswerOf(a, err)); err != nil {
			c.node.log.Debug("control request not answered", "to", from, "err", err)
		}
	})
	return nil
}

func (c *control) answered(from, id uint64, body []byte) error {
	c.mu.Lock()
	a, ok := c.mu.out[id]
	if ok && a.to == from {
		delete(c.mu.out, id)
	}
	c.mu.Unlock()
	if !ok || a.to != from {
		return nil // nobody waits for it any more
	}
	var answer controlAnswer
	if err := json.Unmarshal(body, &answer); err != nil {
		close(a.answer)
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	a.answer <- answer
	return nil
}

// serve does what is asked, on this node.
func (c *control) serve(ctx context.Context, g *Group, r controlRequest) (controlAnswer, error) {
	if g == nil {
		return controlAnswer{}, errNoGroup
	}
	if reason := g.failed.Load(); reason != nil {
		return controlAnswer{}, fmt.Errorf("%w: %s", ErrGroupFailed, *reason)
	}
	if !g.begun.Load() {
		return controlAnswer{}, fmt.Errorf("%w: the group is starting", errNotLeader)
	}
	var err error
	switch r.Ask {
	case askMembers:
		now := g.Membership()
		return controlAnswer{Now: &now}, nil
	case askLook:
	case askChange:
		err = g.serveChange(ctx, r)
	case askTransfer:
		err = g.serveTransfer(ctx, r.To)
	default:
		err = fmt.Errorf("%w: node %d does not know %q: it is of an older version",
			ErrInvalidChange, c.node.options.ID, r.Ask)
	}
	if err != nil {
		return controlAnswer{Leader: g.lead.Load()}, err
	}
	a, err := g.look(ctx)
	a.Unplaced = g.unplaced()
	return a, err
}

func controlAnswerOf(a controlAnswer, err error) controlAnswer {
	if err == nil {
		return a
	}
	a.Code, a.Error = "unknown", err.Error()
	for _, known := range controlErrors {
		if errors.Is(err, known.err) {
			a.Code = known.code
			break
		}
	}
	return a
}

// err is the error that the answer carries, nil when what was asked is done.
func (a *controlAnswer) err(from uint64) error {
	if a.Code == "" {
		return nil
	}
	for _, known := range controlErrors {
		if a.Code == known.code {
			return fmt.Errorf("%w (node %d: %s)", known.err, from, a.Error)
		}
	}
	return unknown(fmt.Sprintf("node %d: %s", from, a.Error))
}

// fromCore gives the errors of the core the names that callers know.
func fromCore(err error) error {
	for _, pair := range [...][2]error{
		{replica.ErrConflict, ErrConflict}, {replica.ErrChangePending, ErrChangePending},
		{replica.ErrNoQuorum, ErrNoQuorum}, {replica.ErrInvalidChange, ErrInvalidChange},
		{replica.ErrTransferFirst, errTransferFirst}, {replica.ErrNotLeader, errNotLeader},
		{replica.ErrOverwritten, errNotLeader}, {replica.ErrTransferPending, ErrChangePending},
		{replica.ErrTransferTarget, ErrInvalidChange},
		{replica.ErrTransferFailed, ErrTransferFailed},
	} {
		if errors.Is(err, pair[0]) {
			return fmt.Errorf("%w (%w)", pair[1], err)
		}
	}
	return err
}
