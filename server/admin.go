package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/connectraft/connect/node"
)

// adminListener serves operators and their tools over HTTP.
type adminListener struct {
	server   *Server
	listener net.Listener
	http     *http.Server
	served   sync.WaitGroup
	open     atomic.Int64 // connections

	// slots has a token for each request under way; close takes all of them. streams likewise for
	// those that last, which must not take all the slots.
	slots, streams chan struct{}
	cancel         context.CancelFunc // ends the contexts of all requests
}

const (
	adminConnections = 128 // more are closed: they must not use up the files the log needs
	adminStreams     = 48
	adminHeaderBytes = 16 << 10
	adminReadTime    = 10 * time.Second
	adminWriteTime   = 2 * time.Minute // a profile of a minute has to fit
	adminIdleTime    = time.Minute
	adminCloseTime   = 250 * time.Millisecond // for answers under way when the server closes
)

func newAdminListener(s *Server, l net.Listener) *adminListener {
	a := &adminListener{server: s, listener: l, slots: make(chan struct{}, adminConnections),
		streams: make(chan struct{}, adminStreams)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.healthz)
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("GET /status", a.status)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.Handle("/v1/", a.operations())
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	a.http = &http.Server{
		Handler:           a.bounded(mux),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		MaxHeaderBytes:    adminHeaderBytes,
		ReadHeaderTimeout: adminReadTime,
		WriteTimeout:      adminWriteTime,
		IdleTimeout:       adminIdleTime,
		ConnState:         a.count,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
	return a
}

// bounded lets close wait for requests, and gives the body of one a time to arrive. A read timeout
// of the whole server would also end what takes long to answer, such as a profile: the server of
// net/http keeps reading while a request is answered.
func (a *adminListener) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case a.slots <- struct{}{}:
			defer func() { <-a.slots }()
		default:
			http.Error(w, "too many requests, or the server closes", http.StatusServiceUnavailable)
			return
		}
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(adminReadTime))
		}
		next.ServeHTTP(w, r)
	})
}

// count follows the life of a connection.
func (a *adminListener) count(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if a.open.Add(1) > adminConnections {
			_ = conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		a.open.Add(-1)
	}
}

func (a *adminListener) start() {
	a.served.Go(func() {
		if err := a.http.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			a.server.logger.Error("admin listener stopped", "error", err)
		}
	})
}

// close ends the listener. It waits a moment for answers under way and not longer, because a
// connection that never carried a request counts as one of them; what lasts ends with its context.
func (a *adminListener) close() {
	a.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), adminCloseTime)
	defer cancel()
	if err := a.http.Shutdown(ctx); err != nil {
		_ = a.http.Close()
	}
	_ = a.listener.Close() // when it was never started
	a.served.Wait()
	for range cap(a.slots) {
		a.slots <- struct{}{}
	}
}

// healthz says that the process runs and its node can go on.
func (a *adminListener) healthz(w http.ResponseWriter, _ *http.Request) {
	answerReady(w, a.server.Err())
}

// readyz says whether clients are served well here, and why not.
func (a *adminListener) readyz(w http.ResponseWriter, _ *http.Request) {
	answerReady(w, a.server.ready())
}

func answerReady(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintln(w, err)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

// ready returns nil when the service answers on this node, else why it does not.
func (s *Server) ready() error {
	if err := s.Err(); err != nil {
		return err
	}
	if s.clients.stopping() {
		return node.ErrClosed
	}
	return s.group.Ready()
}

// status shows the state of the node as JSON, a field to a line.
func (a *adminListener) status(w http.ResponseWriter, _ *http.Request) {
	body, err := json.MarshalIndent(a.server.status(), "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}
