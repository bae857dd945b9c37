package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/connectraft/connect/client"
	"github.com/connectraft/connect/internal/wire"
)

const (
	repeaterCount     = 2
	repeaterPause     = 30 * time.Millisecond
	repeaterSequences = 500 // of a session, below what the cluster keeps answers for
)

// repeater increments a counter of its own in a session, one write after the other, and sends old
// writes again long after they were answered, so over restarts, snapshots and changes of members.
// Package client acknowledges answers and would not. The answer to each sequence is its number,
// however often and whomever it asks.
type repeater struct {
	number   int
	places   []*process
	findings *findings
	random   *rand.Rand

	turn     int // of the places, while it knows no leader
	conn     net.Conn
	keys     int
	key      string
	session  uint64 // 0 = none
	answered uint64 // the last sequence of which the answer is known
}

func (r *repeater) run(ctx context.Context) {
	defer r.leave("")
	for ctx.Err() == nil {
		if err := r.step(); err != nil {
			sleep(ctx, pauseRefused)
		}
		sleep(ctx, repeaterPause)
	}
}

// step sends one request. An error means that it has no answer.
func (r *repeater) step() error {
	if r.session == 0 {
		return r.begin()
	}
	sequence := r.answered + 1
	if r.answered > 0 && r.random.IntN(2) == 0 {
		sequence = 1 + r.random.Uint64N(r.answered)
	}
	reply, err := r.ask(wire.Frame{Kind: wire.Write, Payload: client.Command(string(incr), r.key),
		Request: wire.Request{Group: 1, Session: r.session, Sequence: sequence}})
	if err != nil {
		return err
	}
	parsed, err := parseReply(reply.Payload)
	if err != nil || parsed.text != strconv.FormatUint(sequence, 10) {
		r.wrong(sequence, "%q, %v", reply.Payload, err)
	}
	if r.answered = max(r.answered, sequence); r.answered == repeaterSequences {
		r.session = 0
	}
	return nil
}

// begin opens a session for a fresh counter.
func (r *repeater) begin() error {
	reply, err := r.ask(wire.Frame{Kind: wire.OpenSession, Request: wire.Request{Group: 1}})
	if err != nil {
		return err
	}
	id, ok := wire.ParseSession(reply.Payload)
	if !ok {
		r.findings.violation("a session was opened with the answer % x", reply.Payload)
		return fmt.Errorf("answer % x", reply.Payload)
	}
	r.keys++
	r.key, r.session, r.answered = fmt.Sprintf("s%d-%d", r.number, r.keys), id, 0
	return nil
}

// ask sends a request to where the leader was last, or to the next node.
func (r *repeater) ask(request wire.Frame) (reply wire.Frame, err error) {
	if r.conn == nil {
		r.turn++
		if err := r.dial(r.places[r.turn%len(r.places)].client); err != nil {
			return reply, err
		}
	}
	err = r.conn.SetDeadline(time.Now().Add(operationTimeout))
	if err == nil {
		_, err = r.conn.Write(wire.AppendFrame(nil, request))
	}
	if err == nil {
		reply, err = wire.ReadFrame(r.conn, 64<<10)
	}
	if err != nil {
		r.leave("")
		return reply, err
	}
	switch reply.Status {
	case wire.OK:
		return reply, nil
	case wire.SessionExpired, wire.SequenceTooOld, wire.SessionFull, wire.Refused, wire.TooLarge:
		r.wrong(request.Sequence, "%v: %s", reply.Status, reply.Payload)
		r.session = 0
	}
	r.leave(reply.Leader)
	return reply, fmt.Errorf("%v: %s", reply.Status, reply.Payload)
}

// wrong notes an answer that no write of a session may have.
func (r *repeater) wrong(sequence uint64, format string, args ...any) {
	args = slices.Concat([]any{sequence, r.session, r.key, r.answered}, args)
	r.findings.violation("write %d of session %d, to the counter %s at %d, was answered with "+format,
		args...)
}

// leave gives the connection up, for one to leader if that is known.
func (r *repeater) leave(leader string) {
	if r.conn != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
	if leader != "" {
		_ = r.dial(leader) // else the next request goes elsewhere
	}
}

func (r *repeater) dial(address string) error {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	if _, err := conn.Write(wire.AppendPreamble(nil)); err != nil {
		_ = conn.Close()
		return err
	}
	r.conn = conn
	return nil
}
