//go:build !linux && !darwin

package server

import "github.com/connectraft/connect/internal/admin"

// diskOf does not know the room on the file system.
func diskOf(dir string) admin.Disk {
	return admin.Disk{Directory: dir, FreeBytes: -1, TotalBytes: -1}
}
