package children

import (
	"os/exec"
	"syscall"
)

// bind has the kernel kill the process when the thread that starts it ends.
func bind(command *exec.Cmd) {
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
