package server

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/connectraft/connect/internal/admin"
)

const (
	streamPeriod    = 5 * time.Second  // an empty line shows that the connection lives
	progressPeriod  = time.Second      // between two lines about a step that lasts
	streamWriteTime = 10 * time.Second // for who asked to take a line
)

// stream is an answer of JSON lines that may take as long as it wants. It belongs to the goroutine
// of its request.
type stream struct {
	w          http.ResponseWriter
	controller *http.ResponseController
}

// openStream begins an answer; release must be called at its end. There are only so many streams.
func (a *adminListener) openStream(w http.ResponseWriter) (s *stream, release func(), err error) {
	select {
	case a.streams <- struct{}{}:
	default:
		return nil, nil, &admin.Error{Kind: admin.KindOverloaded, Outcome: admin.NotDone,
			Message: "too many streams are open on this node; ask again later, or another node"}
	}
	s = &stream{w: w, controller: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	return s, func() { <-a.streams }, s.flush(nil)
}

// send writes a line at once. An error means that nobody listens any more.
func (s *stream) send(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.flush(append(line, '\n'))
}

// alive writes an empty line.
func (s *stream) alive() error { return s.flush([]byte{'\n'}) }

func (s *stream) flush(line []byte) error {
	if err := s.controller.SetWriteDeadline(time.Now().Add(streamWriteTime)); err != nil {
		return err
	}
	if _, err := s.w.Write(line); err != nil {
		return err
	}
	return s.controller.Flush()
}
