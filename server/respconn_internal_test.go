package server

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/connectraft/connect/config"
)

// sink is a connection that notes what is written to it, and the largest write.
type sink struct {
	net.Conn
	got     bytes.Buffer
	largest int
}

func (s *sink) SetWriteDeadline(time.Time) error { return nil }

func (s *sink) Write(b []byte) (int, error) {
	s.largest = max(s.largest, len(b))
	return s.got.Write(b)
}

// TestRepliesToShortCommandsAreBounded sends, in one batch, commands of two bytes whose replies are
// much longer. They are sent on the way and do not pile up to the end of the batch.
func TestRepliesToShortCommandsAreBounded(t *testing.T) {
	const commands = 32 << 10
	conn := &sink{}
	table, err := newCommandTable([]CommandSpec{Read("get", 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{config: config.Default(), metrics: newMetrics(), service: Service{commands: table}}
	in := newInBuffer(semaphore.NewWeighted(1 << 20))
	in.b = []byte(strings.Repeat("x\n", commands))
	in.end = len(in.b)
	c := newRespConn(s, conn, 1, in)
	c.batch()
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(conn.got.Bytes(), []byte("-ERR unknown command 'x'")); n != commands {
		t.Errorf("%d replies to %d commands", n, commands)
	}
	if limit := outBytesFlush + 1<<10; conn.largest > limit {
		t.Errorf("%d bytes of replies in one piece, want at most %d", conn.largest, limit)
	}
}

func TestWindowOfReadsFitsTheAnswers(t *testing.T) {
	for _, test := range []struct {
		name                       string
		reads, count, bytes, later int
	}{
		{"small answers, a full window", 16, 16, 1600, 32},
		{"small answers, few reads", 16, 3, 300, 16},
		{"not beyond the limit", 1000, 1000, 5000, windowCommands},
		{"just fitting", 16, 16, windowBytes, 32},
		{"twice as much as fits", 16, 16, 2 * windowBytes, 8},
		{"each as large as a window", 16, 16, 16 * windowBytes, 1},
		{"one larger than a window", 1, 1, 9 * windowBytes, 1},
		{"few and large", 1024, 2, 4 * windowBytes, 1},
		{"small again", 1, 1, 100, 2},
	} {
		c := &respConn{reads: test.reads}
		if c.adapt(test.count, test.bytes); c.reads != test.later {
			t.Errorf("%s: %d reads, want %d", test.name, c.reads, test.later)
		}
	}
}
