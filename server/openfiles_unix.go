//go:build linux || darwin

package server

import (
	"math"
	"syscall"
)

// openFiles returns how many files this process may have open, or 0 when that is not known. Go's
// runtime has raised the soft limit to the hard one.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Cur, math.MaxInt32))
}
