package torture

import (
	"fmt"
	"strings"
	"time"
)

// operationTimeout is longer than the time after which the cluster itself calls an outcome unknown.
const operationTimeout = requestTimeout + 500*time.Millisecond

// session is a client's way into the cluster: of RESP or of the binary protocol.
type session interface {
	// do has an operation done and tells what became of it; detail says more about a failure. It
	// notes in o at what level a read was, and the index of the answer.
	do(o *operation, words []string) (r reply, _ outcome, detail string)
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

func (s *respSession) do(_ *operation, words []string) (reply, outcome, string) {
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
