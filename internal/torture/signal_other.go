//go:build !unix

package torture

import (
	"errors"
	"os"
	"os/exec"
)

func pause(*os.Process) error  { return errors.ErrUnsupported }
func resume(*os.Process) error { return errors.ErrUnsupported }
func shield(*exec.Cmd)         {}
