package client

import (
	"errors"
	"fmt"
)

// Errors that a request may end with. All but ErrUnknown mean that a write was not applied and
// never will be.
var (
	// ErrUnknown: the write may have been applied, or may yet be. Repeat it only if it can be
	// applied twice.
	ErrUnknown = errors.New("client: outcome unknown")
	// ErrUnavailable: no node took the request until the context ended. It can be repeated.
	ErrUnavailable = errors.New("client: cluster unavailable")
	// ErrRefused: the service does not know the command, or not in this form. Repeating it is of
	// no use.
	ErrRefused = errors.New("client: refused")
	// ErrTooLarge: the command exceeds the limit of the cluster, or of this client.
	ErrTooLarge = errors.New("client: command too large")
	// ErrClosed: the client was closed before the request was sent.
	ErrClosed = errors.New("client: closed")
	// ErrSessionExpired: the cluster does not know the session any more. The write was not applied,
	// unless the error matches ErrUnknown too. Open another session.
	ErrSessionExpired = errors.New("client: session expired")
)

var errSessionClosed = errors.New("closed by this client")

// requestError joins one of the errors above with what was found out about it.
type requestError struct {
	kind   error
	detail error
}

func (e *requestError) Error() string   { return fmt.Sprintf("%v: %v", e.kind, e.detail) }
func (e *requestError) Unwrap() []error { return []error{e.kind, e.detail} }
