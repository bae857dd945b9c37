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

	lies, dirLies bool // syncs do nothing; those of directories
}

func (r *recorder) SyncDir(dir string) error {
	if r.dirLies {
		return nil
	}
	return r.FS.SyncDir(dir)
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

func (f *recordedFile) SyncData() error {
	if f.r.lies {
		return nil
	}
	return f.File.SyncData()
}

type recordedFile struct {
	vfs.File
	r    *recorder
	name string
}

func (f *recordedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.note(n, off)
	return n, err
}

const (
	sectorBytes = 512
	// sectorsMax bounds how many sectors of a write a crash tells apart; a longer one is one piece.
	sectorsMax = 32
)

// WriteVectorAt gives each sector to the disk as a write of its own: the death of the process leaves
// those up to one of them, a power cut any of them.
func (f *recordedFile) WriteVectorAt(parts [][]byte, off int64) (n int, err error) {
	defer func() { f.note(n, off) }()
	all := slices.Concat(parts...)
	if len(all) > sectorsMax*sectorBytes {
		return f.File.WriteAt(all, off)
	}
	for n < len(all) && err == nil {
		at := off + int64(n)
		piece := all[n:min(len(all), n+sectorBytes-int(at%sectorBytes))]
		wrote := 0
		wrote, err = f.File.WriteAt(piece, at)
		n += wrote
	}
	return n, err
}

func (f *recordedFile) note(n int, off int64) {
	if len(f.r.writes) == writesKept {
		f.r.writes = append(f.r.writes[:0], f.r.writes[writesKept/2:]...)
	}
	f.r.writes = append(f.r.writes, segmentWrite{f.name, off, off + int64(n), f.r.appends})
}

// confirmed returns a place that was written at least two appends back and not since, in a file
// that is still there: what the log has of it is acknowledged, and later frames say so.
func (r *recorder) confirmed(pick func(n int) int) (name string, at int64, ok bool) {
	for range 20 {
		if len(r.writes) == 0 {
			return "", 0, false
		}
		i := pick(len(r.writes))
		if pick(2) == 0 {
			i = max(i, len(r.writes)-8) // what lies furthest behind is of little use
		}
		w := r.writes[i]
		if w.append+2 > r.appends || w.to == w.from || !r.exists(w.name) {
			continue
		}
		at := w.from + int64(pick(int(w.to-w.from)))
		later := slices.ContainsFunc(r.writes[i+1:], func(w2 segmentWrite) bool {
			return w2.name == w.name && w2.from <= at && at < w2.to
		})
		if !later {
			return w.name, at, true
		}
	}
	return "", 0, false
}

func (r *recorder) exists(name string) bool {
	names, err := r.FS.List(path.Dir(name))
	return err == nil && slices.Contains(names, path.Base(name))
}
