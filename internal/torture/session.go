package torture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/connectraft/connect/client"
)

// operationTimeout is longer than the time after which the cluster itself calls an outcome unknown.
const operationTimeout = requestTimeout + 500*time.Millisecond

// session is a client's way into the cluster: of RESP or of the binary protocol.
type session interface {
	// do has an operation done and tells what became of it; detail says more about a failure.
	do(ctx context.Context, words []string) (r reply, o outcome, detail string)
	via() string
	close()
}

// respSession asks one node until that fails, then the next.
type respSession struct {
	nodes []*process
	turn  int
	conn  *respConn
}

func (s *respSession) via() string { return fmt.Sprintf("resp %d", s.nodes[s.turn].id()) }

func (s *respSession) close() {
	if s.conn != nil {
		s.conn.close()
		s.conn = nil
	}
}

func (s *respSession) leave() {
	s.close()
	s.turn = (s.turn + 1) % len(s.nodes)
}

func (s *respSession) do(_ context.Context, words []string) (reply, outcome, string) {
	if s.conn == nil {
		conn, err := dialRESP(s.nodes[s.turn].client, time.Second)
		if err != nil {
			s.leave()
			return reply{}, notApplied, err.Error()
		}
		s.conn = conn
	}
	r, err := s.conn.do(operationTimeout, words...)
	if err != nil {
		s.leave()
		return reply{}, unknown, err.Error()
	}
	o := respOutcome(r)
	if o != applied {
		s.leave()
	}
	return r, o, r.failed
}

// respOutcome tells the outcome by the first word of an error, as package server documents it. ERR is
// the service's own answer, which it gives when it applies the command.
func respOutcome(r reply) outcome {
	word, _, _ := strings.Cut(r.failed, " ")
	switch word {
	case "", "ERR":
		return applied
	case "CLUSTERDOWN", "NOTLEADER", "OVERLOADED", "TOOLARGE", "DISKFULL", "CLOSED", "FAILED":
		return notApplied
	}
	return unknown
}

// binarySession uses a package client that others use at the same time.
type binarySession struct{ client *client.Client }

func (s *binarySession) via() string { return "client" }
func (s *binarySession) close()      {} // the workload does

func (s *binarySession) do(ctx context.Context, words []string) (reply, outcome, string) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	request := s.client.Write
	if words[0] == string(get) {
		request = s.client.Read
	}
	result, err := request(ctx, client.Command(words[0], words[1:]...))
	switch {
	case errors.Is(err, client.ErrUnknown):
		return reply{}, unknown, err.Error()
	case err != nil:
		return reply{}, notApplied, err.Error()
	}
	r, err := parseReply(result.Answer)
	if err != nil {
		return reply{failed: err.Error()}, applied, err.Error()
	}
	return r, applied, r.failed
}
