package wal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/connectraft/connect/internal/vfs"
)

// segmentFile is a file that looks like a segment by its name.
type segmentFile struct {
	*segment
	scan scanner
	// given says that somebody else closes the file.
	given bool
	// valid says that the file begins with a header of this log under this name.
	valid bool
	// proven is up to where the file is known to have been synced from the header of a segment
	// behind it that does not count.
	proven int64
	// sealed is where the frames that count end, as the segment after it says; -1: not known.
	sealed int64
}

// survey is what a directory holds, before anything is read but headers.
type survey struct {
	// files are the segment files by ascending id.
	files []*segmentFile
	// temps are files that a crash has left half made.
	temps []string
	// identity is that of the superblock, or of the newest valid segment; the zero one if there
	// is neither.
	identity Identity
}

// surveyDir lists a directory and reads the headers of its segments. flag is how to open them.
// The caller closes the files of the survey, also after an error.
func surveyDir(fs vfs.FS, dir string, super *superblock, flag int) (*survey, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("wal: list %s: %w", dir, err)
	}
	v := &survey{}
	if super != nil {
		v.identity = super.identity
	}
	for _, name := range names {
		if strings.HasSuffix(name, segmentSuffix+tempSuffix) {
			v.temps = append(v.temps, name)
			continue
		}
		id, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		s, err := openSegment(fs, dir, id, flag)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return v, err
		}
		v.files = append(v.files, &segmentFile{segment: s, sealed: -1})
	}
	slices.SortFunc(v.files, func(a, b *segmentFile) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return v, v.readHeaders()
}

// readHeaders decodes the headers, newest first, and decides whose log it is.
func (v *survey) readHeaders() error {
	for _, f := range slices.Backward(v.files) {
		size, err := f.file.Size()
		if err != nil {
			return fmt.Errorf("wal: size of segment %d: %w", f.id, err)
		}
		f.scan = scanner{file: f.file, size: size}
		if err := f.scan.read(0, min(sectorBytes, size)); err != nil {
			return fmt.Errorf("wal: read segment %d: %w", f.id, err)
		}
		h, err := decodeSegmentHeader(f.scan.buf)
		if err != nil && !errors.Is(err, errNoHeader) {
			return fmt.Errorf("wal: segment %d: %w", f.id, err)
		}
		if err == nil && h.id == f.id {
			if v.identity == (Identity{}) {
				v.identity = h.identity
			}
			f.valid = h.identity == v.identity
		}
		if f.valid {
			f.segmentHeader = h
		}
		f.segmentHeader.size = size
	}
	for _, f := range v.files {
		f.salt = saltOf(v.identity.Incarnation, f.id)
		f.scan.salt = f.salt
	}
	return nil
}

// active says whether a segment file was in use: its activation is whole, or frames in it or the
// superblock say that it was durable. If it was not, written says whether anything of an
// activation is there.
func (f *segmentFile) active(super *superblock) (used, written bool, _ error) {
	if super != nil && super.segment == f.id {
		return true, true, nil
	}
	if f.valid {
		whole, err := f.activationWhole()
		if whole || err != nil {
			return whole, true, err
		}
	}
	end, found, err := f.scan.durableEnd(0)
	return end > 0, f.valid || found || len(f.scan.refused) > 0, err
}

// activationWhole says whether every frame of the activation verifies.
func (f *segmentFile) activationWhole() (bool, error) {
	at, sequence := int64(sectorBytes), f.firstSequence
	for at < f.activationEnd {
		status, h, _, err := f.scan.frame(at)
		if err != nil {
			return false, err
		}
		if status == frameWhole && h.sequence == sequence {
			at += h.frameBytes()
			sequence++
			continue
		}
		if sequence != f.activationLast || alignUp(at, sectorBytes) != f.activationEnd {
			return false, nil
		}
		return f.scan.zeroUntil(at, f.activationEnd)
	}
	return at == f.activationEnd && sequence == f.activationLast, nil
}

// removeFile removes a file of the log that is of no use. A crash may bring it back, so this
// needs no sync of the directory.
func removeFile(fs vfs.FS, dir, name string) error {
	if err := ignoreMissing(fs.Remove(filepath.Join(dir, name))); err != nil {
		return fmt.Errorf("wal: remove %s: %w", name, err)
	}
	return nil
}
