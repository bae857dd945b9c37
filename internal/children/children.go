// Package children starts processes that do not outlive this one, however it ends: a test that is
// killed by its time limit runs no cleanup, and would leave its nodes running.
package children

import (
	"os/exec"
	"runtime"
)

// Starter starts processes. On Linux they are killed when the thread that started them ends, so they
// are started by one that lives until Close; elsewhere a process that is killed leaves them. Its
// methods may be called from any goroutine.
type Starter struct {
	requests chan request
	ended    chan struct{}
}

type request struct {
	command *exec.Cmd
	started chan error
}

// New makes a starter. The caller closes it.
func New() *Starter {
	s := &Starter{requests: make(chan request), ended: make(chan struct{})}
	go s.run()
	return s
}

// Start is command.Start for a process that ends with this one. It must not be called after Close.
func (s *Starter) Start(command *exec.Cmd) error {
	r := request{command, make(chan error, 1)}
	s.requests <- r
	return <-r.started
}

// Close ends the starter. Processes that still run may be killed.
func (s *Starter) Close() {
	close(s.requests)
	<-s.ended
}

func (s *Starter) run() {
	defer close(s.ended)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for r := range s.requests {
		bind(r.command)
		r.started <- r.command.Start()
	}
}
