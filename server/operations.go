package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/connectraft/connect/internal/admin"
)

const (
	operationBytesMax = 64 << 10 // of a body
	operationTime     = 30 * time.Second
)

// operations are the requests under /v1/: JSON for operators and their programs.
//
// A browser on the operator's machine reaches the listener as well, and with it every page that is
// open there. Nothing changes on GET; what changes something must have the Content-Type of JSON,
// which no form can send; and a request with an Origin, which pages cannot leave out of such
// requests, is refused. There is no answer to a preflight request, so a page of elsewhere reads
// nothing either.
func (a *adminListener) operations() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", a.getStatus)
	mux.HandleFunc("GET /v1/members", a.getMembers)
	mux.HandleFunc("POST /v1/members", a.postMembers)
	mux.HandleFunc("POST /v1/transfer", a.postTransfer)
	mux.HandleFunc("POST /v1/drain", a.postDrain)
	mux.HandleFunc("GET /v1/groups", a.getGroups)
	mux.HandleFunc("POST /v1/groups", a.postGroups)
	mux.HandleFunc("DELETE /v1/groups/{group}", a.deleteGroup)
	mux.HandleFunc("GET /v1/events", a.getEvents)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := admissible(r); err != nil {
			answerError(w, err)
			return
		}
		handler, pattern := mux.Handler(r)
		if pattern == "" {
			answerNoHandler(w, r, handler)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// admissible refuses what a web page may have sent.
func admissible(r *http.Request) error {
	if r.Header.Get("Origin") != "" {
		return &admin.Error{Kind: admin.KindForbidden, Outcome: admin.NotDone,
			Message: "a request with an Origin header comes from a web page, and is refused"}
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	given := r.Header.Get("Content-Type")
	if kind, _, err := mime.ParseMediaType(given); err != nil || kind != "application/json" {
		return &admin.Error{Kind: admin.KindForbidden, Outcome: admin.NotDone, Message: fmt.Sprintf(
			"Content-Type is %q: want application/json with every request that changes something", given)}
	}
	return nil
}

// answerNoHandler says in JSON that there is no such path, or not with this method.
func answerNoHandler(w http.ResponseWriter, r *http.Request, handler http.Handler) {
	recorder := &statusRecorder{header: make(http.Header)}
	handler.ServeHTTP(recorder, r)
	e := &admin.Error{Kind: admin.KindNotFound, Outcome: admin.NotDone,
		Message: fmt.Sprintf("there is no %s; docs/operations.md lists what there is", r.URL.Path)}
	if allow := recorder.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		e.Message = fmt.Sprintf("%s %s: want %s", r.Method, r.URL.Path, allow)
	}
	answerErrorStatus(w, recorder.status, e)
}

// statusRecorder takes what the mux answers itself.
type statusRecorder struct {
	header http.Header
	status int
}

func (r *statusRecorder) Header() http.Header         { return r.header }
func (r *statusRecorder) Write(p []byte) (int, error) { return len(p), nil }
func (r *statusRecorder) WriteHeader(status int)      { r.status = status }

// decode reads the one JSON object of a body, strictly.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, operationBytesMax))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, more := decoder.Token(); more != io.EOF {
			err = errors.New("want one object and nothing behind it")
		}
	}
	// The answer may take longer than the request may.
	if clear := http.NewResponseController(w).SetReadDeadline(time.Time{}); err == nil {
		err = clear
	}
	if err != nil {
		return invalid("body: %v", err)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return &admin.Error{Kind: admin.KindInvalid, Outcome: admin.NotDone,
		Message: fmt.Sprintf(format, args...)}
}

// groupOf reads the query ?group=N, 0 for none.
func groupOf(r *http.Request) (uint64, error) {
	given := r.URL.Query().Get("group")
	if given == "" {
		return 0, nil
	}
	return parseGroup(given)
}

func parseGroup(given string) (uint64, error) {
	id, err := strconv.ParseUint(given, 10, 64)
	if err != nil || id == 0 {
		return 0, invalid("group = %q: want a number of 1 or more", given)
	}
	return id, nil
}

// limited is the context of a request that should not take long.
func limited(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), operationTime)
}

func answerJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		answerError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n')) // who asked may be gone
}

// answerDone answers nil with {"done":true}, and an error as what it is.
func answerDone(w http.ResponseWriter, err error) {
	if err != nil {
		answerError(w, err)
		return
	}
	answerJSON(w, admin.Done{Done: true})
}
