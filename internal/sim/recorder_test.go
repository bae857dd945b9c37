package sim_test

import (
	"path"
	"slices"
	"strings"

	"github.com/connectraft/connect/internal/vfs"
)

// recorder notes which bytes of segments were written for which append, so that a fault can damage
// bytes that later appends have confirmed.
type recorder struct {
	vfs.FS
	appends uint64
	writes  []segmentWrite
}

type segmentWrite struct {
	name     string
	from, to int64
	append   uint64 // since the process or the disk began
}

const writesKept = 256

// forget drops what is known about files that are others now.
func (r *recorder) forget(names ...string) {
	r.writes = slices.DeleteFunc(r.writes, func(w segmentWrite) bool {
		return slices.Contains(names, w.name)
	})
}

func (r *recorder) Remove(name string) error {
	r.forget(name)
	return r.FS.Remove(name)
}

func (r *recorder) Rename(oldName, newName string) error {
	if strings.TrimSuffix(oldName, ".tmp") != newName {
		r.forget(oldName, newName) // a file that was free is used again
	}
	return r.FS.Rename(oldName, newName)
}

func (r *recorder) OpenFile(name string, flag int) (vfs.File, error) {
	f, err := r.FS.OpenFile(name, flag)
	name = strings.TrimSuffix(name, ".tmp") // a segment gets its name when it is whole
	if err != nil || !strings.HasSuffix(name, ".wal") {
		return f, err
	}
	return &recordedFile{File: f, r: r, name: name}, nil
}

type recordedFile struct {
	vfs.File
	r    *recorder
	name string
}

func (f *recordedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	if len(f.r.writes) == writesKept {
		f.r.writes = append(f.r.writes[:0], f.r.writes[writesKept/2:]...)
	}
	f.r.writes = append(f.r.writes, segmentWrite{f.name, off, off + int64(n), f.r.appends})
	return n, err
}

// confirmed returns a write that lies at least two appends back and whose file is still there.
func (r *recorder) confirmed(pick func(n int) int) (segmentWrite, bool) {
	var list []segmentWrite
	for _, w := range r.writes {
		if w.append+2 > r.appends || w.to-w.from == 0 {
			continue
		}
		if names, err := r.FS.List(path.Dir(w.name)); err == nil {
			for _, name := range names {
				if name == path.Base(w.name) {
					list = append(list, w)
					break
				}
			}
		}
	}
	if len(list) == 0 {
		return segmentWrite{}, false
	}
	return list[pick(len(list))], true
}
