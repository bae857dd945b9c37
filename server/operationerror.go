package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/connectraft/connect/internal/admin"
	"github.com/connectraft/connect/node"
)

// operationErrors has what operators are told about the errors of the node.
var operationErrors = []struct {
	err    error
	kind   string
	status int
}{
	{node.ErrInvalidChange, admin.KindInvalid, http.StatusBadRequest},
	{node.ErrConflict, admin.KindConflict, http.StatusConflict},
	{node.ErrChangePending, admin.KindPending, http.StatusConflict},
	{node.ErrNoQuorum, admin.KindNoQuorum, http.StatusConflict},
	{node.ErrTransferFailed, admin.KindOther, http.StatusConflict},
	{node.ErrRemoved, admin.KindStopping, http.StatusServiceUnavailable},
	{node.ErrRefused, admin.KindStopping, http.StatusServiceUnavailable},
	{node.ErrNotAdded, admin.KindStopping, http.StatusServiceUnavailable},
	{node.ErrGroupRemoved, admin.KindInvalid, http.StatusGone},
	{node.ErrGroupExists, admin.KindExists, http.StatusConflict},
	{node.ErrGroupID, admin.KindInvalid, http.StatusBadRequest},
	{node.ErrTooManyGroups, admin.KindInvalid, http.StatusConflict},
	{node.ErrNoGroup, admin.KindNotFound, http.StatusNotFound},
	{node.ErrNoLeader, admin.KindNoLeader, http.StatusServiceUnavailable},
	{node.ErrClosed, admin.KindStopping, http.StatusServiceUnavailable},
	{node.ErrOverloaded, admin.KindOverloaded, http.StatusServiceUnavailable},
	{node.ErrDiskFull, admin.KindOverloaded, http.StatusServiceUnavailable},
	{node.ErrUnknown, admin.KindOther, http.StatusGatewayTimeout},
	{context.DeadlineExceeded, admin.KindTimeout, http.StatusGatewayTimeout},
	{context.Canceled, admin.KindStopping, http.StatusServiceUnavailable},
}

// errorOf says in the terms of the admin listener what went wrong.
func errorOf(err error) *admin.Error {
	e, _ := explain(err)
	return e
}

// explain adds the status of an answer that has nothing else to tell.
func explain(err error) (*admin.Error, int) {
	if e, ok := errors.AsType[*admin.Error](err); ok {
		return e, statusOf(e.Kind)
	}
	e, status := &admin.Error{Message: err.Error(), Kind: admin.KindOther, Outcome: admin.Unknown},
		http.StatusInternalServerError
	for _, known := range operationErrors {
		if errors.Is(err, known.err) {
			e.Kind, status = known.kind, known.status
			break
		}
	}
	if isDefinite(err) {
		e.Outcome = admin.NotDone
	}
	return e, status
}

// statusOf is the status of an error that this package made.
func statusOf(kind string) int {
	switch kind {
	case admin.KindInvalid:
		return http.StatusBadRequest
	case admin.KindForbidden:
		return http.StatusForbidden
	case admin.KindNotFound:
		return http.StatusNotFound
	}
	return http.StatusServiceUnavailable
}

func answerError(w http.ResponseWriter, err error) {
	e, status := explain(err)
	answerErrorStatus(w, status, e)
}

func answerErrorStatus(w http.ResponseWriter, status int, e *admin.Error) {
	body, err := json.Marshal(admin.Failure{Error: e})
	if err != nil {
		http.Error(w, e.Message, status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // who asked may be gone
}

// isDefinite reports whether an error says for sure that what was asked has not been done.
func isDefinite(err error) bool {
	if errors.Is(err, node.ErrUnknown) {
		return false
	}
	for _, sure := range []error{node.ErrInvalidChange, node.ErrConflict, node.ErrChangePending,
		node.ErrNoQuorum, node.ErrTransferFailed, node.ErrNotAdded, node.ErrRefused,
		node.ErrRemoved, node.ErrGroupExists, node.ErrGroupID, node.ErrTooManyGroups,
		node.ErrNoGroup} {
		if errors.Is(err, sure) {
			return true
		}
	}
	return node.OutcomeOf(err) == node.NotApplied
}
