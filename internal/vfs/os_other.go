//go:build unix && !linux && !darwin

package vfs

import "os"

func syncData(f *os.File) error { return f.Sync() }

func syncFull(f *os.File) error { return f.Sync() }

func preallocate(f *os.File, size int64) error { return preallocateByWriting(f, size) }
