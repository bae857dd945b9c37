//go:build unix

package torture

import (
	"os"
	"os/exec"
	"syscall"
)

func pause(p *os.Process) error  { return p.Signal(syscall.SIGSTOP) }
func resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }

// shield keeps signals of the terminal, which are for the torture, from a node.
func shield(command *exec.Cmd) { command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
