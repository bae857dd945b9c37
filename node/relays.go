package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/transport"
)

// Commands that reach a follower travel to the leader in request frames of the transport, one hop
// and never further, and come back with a definite outcome for each:
//
//	forward: u64 id │ uvarint commands │ command × commands
//	reply:   u64 id │ uvarint commands │ end × commands
//	end:     u8 outcome │ uvarint index │ uvarint length │ bytes
//
// Integers are little endian. A command is encoded as in an entry of the log, so that one of a
// session stays one; bytes is the answer, or the text of the error.
const (
	kindForward transport.Kind = 1
	kindReply   transport.Kind = 2
)

// The outcomes of a reply. Numbers are part of the protocol.
const (
	replyApplied     = 0
	replyNotLeader   = 1 // surely not applied: the asker tries again, with its own leader
	replyUnknown     = 2
	replyOverload    = 3
	replyTooLarge    = 4
	replyDiskFull    = 5
	replyClosed      = 6
	replyFailed      = 7
	replyNoLeader    = 8
	replyRemoved     = 9
	replyExpired     = 10
	replyTooOld      = 11
	replySessionFull = 12
)

// replyErrors has the class of each outcome that is an error. An error of several classes travels
// as the first one.
var replyErrors = [...]error{
	replyUnknown: ErrUnknown, replyOverload: ErrOverloaded, replyTooLarge: ErrTooLarge,
	replyDiskFull: ErrDiskFull, replyClosed: ErrClosed, replyFailed: ErrGroupFailed,
	replyNoLeader: ErrNoLeader, replyRemoved: ErrGroupRemoved, replyExpired: ErrSessionExpired,
	replyTooOld: ErrSequenceTooOld, replySessionFull: ErrSessionFull,
}

var errFrame = errors.New("node: malformed frame")

// relays are the commands this node has forwarded and not heard of. They are bounded by admission.
type relays struct {
	node *Node
	mu   struct {
		sync.Mutex
		next uint64
		out  map[uint64]forwarded
	}
}

type forwarded struct {
	to    uint64
	group *Group
	calls []*Call
	since time.Time
}

func newRelays(n *Node) *relays {
	r := &relays{node: n}
	// A reply to an earlier life of this node must not end a call of this one.
	r.mu.next = rand.Uint64()
	r.mu.out = map[uint64]forwarded{}
	return r
}

// forward asks the leader to propose commands. It runs on the worker.
func (r *relays) forward(g *Group, leader uint64, proposals []replica.Proposal) {
	calls := make([]*Call, 0, len(proposals))
	for _, p := range proposals {
		c := p.(*Call)
		if !c.Take() {
			c.finish(Result{}, ErrNoLeader)
			continue
		}
		calls = append(calls, c)
	}
	for len(calls) > 0 {
		n, size := 0, 0
		for n < len(calls) {
			need := calls[n].Command().Size()
			if n > 0 && size+need > r.node.options.EntryBytes {
				break
			}
			size += need
			n++
		}
		if !r.send(g, leader, calls[:n], size) {
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

// send forwards calls in one frame. It reports false when they were surely not sent and are still
// the caller's.
func (r *relays) send(g *Group, leader uint64, calls []*Call, size int) bool {
	payload := make([]byte, 8, 8+binary.MaxVarintLen32+size)
	payload = binary.AppendUvarint(payload, uint64(len(calls)))
	for _, c := range calls {
		payload = replica.AppendCommand(payload, c.Command())
	}
	r.mu.Lock()
	r.mu.next++
	id := r.mu.next
	// From here on the loss of the peer may end the calls, whose memory then serves others.
	r.mu.out[id] = forwarded{leader, g, calls, time.Now()}
	r.mu.Unlock()

	binary.LittleEndian.PutUint64(payload, id)
	if err := r.node.transport.Send(leader, g.id, kindForward, payload); err == nil {
		return true
	}
	_, mine := r.take(id)
	return !mine
}

func (r *relays) take(id uint64) (forwarded, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok := r.mu.out[id]
	delete(r.mu.out, id)
	return f, ok
}

// lost ends what was forwarded to a peer whose stream broke: it may or may not have arrived.
func (r *relays) lost(peer uint64) {
	r.end(func(f forwarded) bool { return f.to == peer }, "the connection to the leader broke")
}

// expire ends what has had no reply for very long: the leader could not send it.
func (r *relays) expire() {
	limit := 10 * time.Duration(r.node.options.ElectionTicks) * r.node.options.Tick
	r.end(func(f forwarded) bool { return time.Since(f.since) > limit },
		"the leader did not reply")
}

func (r *relays) closed() { r.end(func(forwarded) bool { return true }, "this node is closing") }

func (r *relays) end(which func(forwarded) bool, why string) {
	var ended []forwarded
	r.mu.Lock()
	for id, f := range r.mu.out {
		if which(f) {
			ended = append(ended, f)
			delete(r.mu.out, id)
		}
	}
	r.mu.Unlock()
	for _, f := range ended {
		for _, c := range f.calls {
			c.finish(Result{}, unknown(why))
		}
	}
}

// reply ends forwarded commands by the leader's answer.
func (r *relays) reply(from uint64, payload []byte) error {
	d := decoder{payload}
	id, count := d.u64(), d.uvarint()
	f, ok := r.take(id)
	if !ok {
		return nil // ended before, by the loss of the connection or by its age
	}
	if f.to != from || count != uint64(len(f.calls)) {
		d.rest = nil
	}
	var again []replica.Proposal
	for _, c := range f.calls {
		outcome, index, body := d.u8(), d.uvarint(), d.bytes()
		switch {
		case d.rest == nil:
			c.finish(Result{}, unknown("the leader's reply is malformed"))
		case outcome == replyApplied:
			c.finish(Result{Index: index, Answer: body}, nil)
		case c.retry && (leaderless(outcome) || outcome == replyOverload):
			c.Release()
			again = append(again, c)
		case leaderless(outcome):
			c.finish(Result{}, &NotLeaderError{Leader: f.group.lead.Load()})
		case int(outcome) < len(replyErrors) && replyErrors[outcome] != nil:
			c.finish(Result{}, fmt.Errorf("%w (leader: %s)", replyErrors[outcome], body))
		default:
			c.finish(Result{}, unknown(fmt.Sprintf("the leader answered with code %d", outcome)))
		}
	}
	f.group.retry(again)
	if d.rest == nil {
		return errFrame
	}
	return nil
}

// leaderless reports whether an outcome means that the node that was asked cannot lead now, and that
// nothing was applied: another one can be asked.
func leaderless(outcome byte) bool {
	switch outcome {
	case replyNotLeader, replyNoLeader, replyClosed, replyFailed:
		return true
	}
	return false
}

// retry has calls proposed again at the next tick.
func (g *Group) retry(calls []replica.Proposal) {
	if len(calls) == 0 {
		return
	}
	if !g.post(func(in *contents) { in.retries = append(in.retries, calls...) }) {
		g.finishAll(calls, g.stopError())
	}
}

// relay collects the ends of the commands of one forward frame on the leader, then replies.
type relay struct {
	node  *Node
	group uint64
	to    uint64
	id    uint64
	calls []*Call
	left  atomic.Int64
}

// accept takes a forward frame from a peer; g is nil when the group does not run here.
func (r *relays) accept(g *Group, id, from uint64, payload []byte) error {
	d := decoder{payload}
	answer := &relay{node: r.node, group: id, to: from, id: d.u64()}
	count := d.uvarint()
	if d.rest == nil || count == 0 || count > uint64(len(payload)) {
		return errFrame
	}
	for range count { // the count may be a lie: memory grows with what is there
		c := d.command()
		if d.rest == nil {
			return errFrame
		}
		call := &Call{group: g, payload: c.Data, system: c.System, relay: answer}
		if c.Session != 0 {
			call.place = &place{session: c.Session, sequence: c.Sequence, acked: c.Acked}
		}
		answer.calls = append(answer.calls, call)
	}
	answer.left.Store(int64(count))
	proposals := make([]replica.Proposal, 0, count)
	for _, c := range answer.calls {
		if g == nil {
			c.refuse(&NotLeaderError{})
			continue
		}
		if err := g.admitCommand(c); err != nil {
			c.refuse(err)
			continue
		}
		proposals = append(proposals, c)
	}
	if len(proposals) == 0 {
		return nil
	}
	if !g.post(func(in *contents) { in.calls = append(in.calls, proposals...) }) {
		g.finishAll(proposals, g.stopError())
	}
	return nil
}

// finished counts the end of one command; the last one sends the reply.
func (a *relay) finished() {
	if a.left.Add(-1) > 0 {
		return
	}
	payload := a.encode(func(c *Call) (byte, []byte) {
		if c.err != nil {
			return replyCode(c.err), []byte(c.err.Error())
		}
		return replyApplied, c.result.Answer
	})
	err := a.node.transport.Send(a.to, a.group, kindReply, payload)
	if err == nil {
		return
	}
	// Perhaps the answers are too large for a frame. The asker learns at least that it will not
	// get them; if it does not learn even that, it gives up by itself.
	a.node.log.Warn("reply not sent", "to", a.to, "group", a.group, "bytes", len(payload),
		"err", err)
	payload = a.encode(func(*Call) (byte, []byte) { return replyUnknown, []byte(err.Error()) })
	_ = a.node.transport.Send(a.to, a.group, kindReply, payload)
}

func (a *relay) encode(answer func(*Call) (code byte, body []byte)) []byte {
	payload := binary.LittleEndian.AppendUint64(nil, a.id)
	payload = binary.AppendUvarint(payload, uint64(len(a.calls)))
	for _, c := range a.calls {
		code, body := answer(c)
		payload = append(payload, code)
		payload = binary.AppendUvarint(payload, c.result.Index)
		payload = binary.AppendUvarint(payload, uint64(len(body)))
		payload = append(payload, body...)
	}
	return payload
}

func replyCode(err error) byte {
	if err == nil {
		return replyApplied
	}
	if _, ok := errors.AsType[*NotLeaderError](err); ok {
		return replyNotLeader
	}
	for _, class := range []error{ErrRemoved, ErrNotAdded, ErrRefused} {
		if errors.Is(err, class) {
			return replyNotLeader // it is this node that has no part in the group
		}
	}
	for code, class := range replyErrors {
		if class != nil && errors.Is(err, class) {
			return byte(code)
		}
	}
	return replyUnknown
}

// decoder reads a frame; rest is nil from the first value that is not there.
type decoder struct{ rest []byte }

func (d *decoder) u8() byte {
	if len(d.rest) < 1 {
		d.rest = nil
		return 0
	}
	v := d.rest[0]
	d.rest = d.rest[1:]
	return v
}

func (d *decoder) u64() uint64 {
	if len(d.rest) < 8 {
		d.rest = nil
		return 0
	}
	v := binary.LittleEndian.Uint64(d.rest)
	d.rest = d.rest[8:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.rest = nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) command() replica.Command {
	c, rest, err := replica.ParseCommand(d.rest)
	d.rest = rest // nil after an error
	if err != nil {
		return replica.Command{}
	}
	return c
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.rest = nil
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}
