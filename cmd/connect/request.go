package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/connectraft/connect/internal/admin"
)

const (
	answerBytesMax = 64 << 20 // the status of 10,000 groups fits many times
	lineBytesMax   = 1 << 20
)

// wayError says that a member gave no answer: it could not be reached, or the connection ended.
type wayError struct {
	address string
	err     error
	sent    bool // the request may have arrived
}

func (e *wayError) Error() string { return fmt.Sprintf("%s: %v", e.address, e.err) }
func (e *wayError) Unwrap() error { return e.err }

// unknownOutcome reports whether what was asked may have been done although there was an error.
func unknownOutcome(err error) bool {
	if e, ok := errors.AsType[*wayError](err); ok {
		return e.sent
	}
	e, ok := errors.AsType[*admin.Error](err)
	return ok && e.Outcome == admin.Unknown
}

// request sends in as JSON, nil for nothing. The error is a *wayError, or an *admin.Error where the
// member answered that it has not done it.
func (c *cluster) request(ctx context.Context, method, address, path string, in any) (
	*http.Response, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, body)
	if err != nil {
		return nil, &wayError{address: address, err: err}
	}
	if method != http.MethodGet {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, &wayError{address: address, err: plainError(err), sent: wasSent(err)}
	}
	if response.StatusCode < 300 {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	var f admin.Failure
	data, _ := io.ReadAll(io.LimitReader(response.Body, lineBytesMax)) // half an answer is none
	if json.Unmarshal(data, &f) == nil && f.Error != nil {
		return nil, f.Error
	}
	return nil, &wayError{address: address, err: fmt.Errorf("answered %s", response.Status)}
}

// call sends a request and reads the answer into out.
func (c *cluster) call(ctx context.Context, method, address, path string, in, out any) error {
	response, err := c.request(ctx, method, address, path, in)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return &wayError{address: address, err: plainError(err), sent: true}
	}
	if err := json.Unmarshal(data, out); err != nil {
		return &wayError{address: address, err: errors.New("answered something that is no JSON")}
	}
	return nil
}

// stream sends a request and calls each for every line of the answer that is not empty.
func (c *cluster) stream(ctx context.Context, method, address, path string, in any,
	each func(line []byte) error) error {
	response, err := c.request(ctx, method, address, path, in)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return &wayError{address: address, err: plainError(err), sent: true}
	}
	return nil
}

// wasSent reports whether a request that got no answer may have arrived.
func wasSent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return !ok || op.Op != "dial"
}

// plainError says only what went wrong on the way, not which URL was asked.
func plainError(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the connection ended before the answer")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op
	}
	return err
}
