//go:build linux || darwin

package server

import (
	"syscall"

	"github.com/connectraft/connect/internal/admin"
)

// diskOf asks for the room on the file system of a directory.
func diskOf(dir string) admin.Disk {
	d := admin.Disk{Directory: dir, FreeBytes: -1, TotalBytes: -1}
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err == nil {
		d.FreeBytes = int64(s.Bavail) * int64(s.Bsize)
		d.TotalBytes = int64(s.Blocks) * int64(s.Bsize)
	}
	return d
}
