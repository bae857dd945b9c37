package torture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/connectraft/connect/internal/children"
)

// process is a place of the cluster with the node that has it, over all its lives. Its methods may be
// called from any goroutine.
type process struct {
	number              int           // of the place
	identity            atomic.Uint64 // the id of the node; it changes while none runs
	client, peer, admin string        // addresses
	dir, log, config    string
	binary              string
	starter             *children.Starter
	findings            *findings
	waiters             sync.WaitGroup
	filled              atomic.Bool // its disk was filled since it was last found ready

	mu struct {
		sync.Mutex
		command  *exec.Cmd
		ended    chan struct{} // closed when the process is gone
		wanted   bool          // it is to be gone: its end is no surprise
		exitCode int           // of the last process that is gone; -1 after a signal
	}
}

func (p *process) id() uint64 { return p.identity.Load() }

var errRuns = errors.New("the node runs already")

// start starts the process. Its end is a violation unless end or kill was called.
func (p *process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.command != nil {
		return errRuns
	}
	command := exec.Command(p.binary, "-config", p.config, "-id", fmt.Sprint(p.id()), "-data", p.dir)
	command.Stdout, command.Stderr = log, log
	shield(command)
	if err := p.starter.Start(command); err != nil {
		return err
	}
	ended := make(chan struct{})
	p.mu.command, p.mu.ended, p.mu.wanted = command, ended, false
	p.waiters.Go(func() { p.wait(command, ended) })
	return nil
}

func (p *process) wait(command *exec.Cmd, ended chan struct{}) {
	err := command.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.mu.wanted:
	case p.filled.Load() && p.lastWords("no space left"):
		// A start that follows another on a full disk fails, and says so; it is repeated when there
		// is room.
	case p.lastWords("address already in use"):
		p.findings.doubt("another program has taken a port of node %d", p.id())
	default:
		p.findings.violation("node %d ended by itself (%v): see %s", p.id(), ending(err), p.log)
	}
	p.mu.command, p.mu.exitCode = nil, command.ProcessState.ExitCode()
	close(ended)
}

// lastWords reports whether the last line of the node's log has text.
func (p *process) lastWords(text string) bool {
	log, err := os.ReadFile(p.log)
	log = bytes.TrimSpace(log)
	return err == nil && bytes.Contains(log[bytes.LastIndexByte(log, '\n')+1:], []byte(text))
}

func ending(err error) string {
	if err == nil {
		return "exit code 0"
	}
	return err.Error()
}

// signal sends s to the process if it runs; the returned channel is closed when it is gone.
func (p *process) signal(s os.Signal) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.command == nil {
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	p.mu.wanted = true
	_ = p.mu.command.Process.Signal(s) // it may have ended meanwhile
	return p.mu.ended
}

// kill ends the process with SIGKILL and waits until it is gone.
func (p *process) kill() { <-p.signal(os.Kill) }

// terminate sends SIGTERM.
func (p *process) terminate() <-chan struct{} { return p.signal(syscall.SIGTERM) }

// running returns the process, nil when it does not run.
func (p *process) running() *os.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.command == nil {
		return nil
	}
	return p.mu.command.Process
}

func (p *process) exitCode() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.exitCode
}
