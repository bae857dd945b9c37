package wal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/connectraft/connect/internal/vfs"
)

// Open opens the log of a directory, or creates it, and reads all of it. It returns ErrLocked,
// an *IdentityError, a *DamageError (never with Options.Repair), or an error that matches
// ErrDiskFull or what the file system gave; none of the first three changes anything on disk.
func Open(o Options) (*Log, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return nil, fmt.Errorf("wal: make %s: %w", o.Dir, err)
	}
	lock, err := o.FS.Lock(filepath.Join(o.Dir, lockName))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, o.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("wal: lock %s: %w", o.Dir, err)
	}
	l := newLog(o, lock)
	if err := l.recover(); err != nil {
		return nil, errors.Join(err, l.worker.stop(), l.releaseFiles(), l.super.close(), lock.Close())
	}
	return l, nil
}

const lockName = "lock"

// recovery reads a log. It changes nothing on disk before finish has decided about damage.
type recovery struct {
	log   *Log
	super *superblock
	*survey
	replay *replay

	// chain are the segments that the log consists of, oldest first; spares are prepared segments,
	// by ascending id, and useless are files that no one needs.
	chain   []*segmentFile
	spares  []*segmentFile
	useless []*segmentFile
	// nextID is above every segment id in use.
	nextID uint64

	// sequence is that of the next frame; 0: whatever comes.
	sequence uint64
	// end is where the frames of the newest segment end, and durable up to where it was synced.
	end, durable int64
	// more says that valid headers stand behind end.
	more bool
	// live says that another process may be writing the log meanwhile.
	live bool

	done, total int64
	reported    int64
}

// recover opens the log for appends.
func (l *Log) recover() error {
	super, err := l.super.open(l.o.FS, l.o.Dir)
	if err != nil {
		return err
	}
	r := &recovery{log: l, super: super, sequence: 1,
		replay: &replay{log: l, info: make(map[*Group]*groupReplay)}}
	err = r.read()
	if err == nil {
		err = r.decide()
	}
	if err == nil {
		err = r.resume()
	}
	if err != nil {
		return errors.Join(err, r.release())
	}
	return nil
}

// release closes the files that have not become the log's.
func (r *recovery) release() error {
	if r.survey == nil {
		return nil
	}
	var errs []error
	for _, f := range r.files {
		if !f.given {
			f.given = true
			errs = append(errs, f.release())
		}
	}
	return errors.Join(errs...)
}

// read builds the groups from the directory.
func (r *recovery) read() error {
	var err error
	r.survey, err = surveyDir(r.log.o.FS, r.log.o.Dir, r.super, os.O_RDWR)
	if err != nil {
		return err
	}
	if err := r.checkIdentity(); err != nil {
		return err
	}
	if err := r.checkFresh(); err != nil {
		return err
	}
	if err := r.link(); err != nil {
		return err
	}
	return r.readChain()
}

// readChain replays the segments that the log consists of.
func (r *recovery) readChain() error {
	for _, f := range r.chain {
		r.total += f.readEnd()
	}
	defer func() {
		for _, f := range r.chain {
			f.scan.ready.wait()
		}
	}()
	var array []byte
	used := make([]*prescan, r.log.prescanCount())
	for i, f := range r.chain {
		if f.scan.ready != nil {
			r.progress(f.scan.ready.wait())
		} else {
			for k, next := range r.chain[i+1 : min(i+1+len(used), len(r.chain))] {
				next.prescan(next.readEnd(), used[k])
				used[k] = next.scan.ready
			}
		}
		f.scan.progress, f.scan.array = r.progress, array
		r.enter(f, i)
		if err := r.readSegment(f, i == len(r.chain)-1); err != nil {
			return fmt.Errorf("wal: read segment %d: %w", f.id, err)
		}
		array = f.scan.array
		f.scan.buf, f.scan.array, f.scan.ready = nil, nil, nil
	}
	r.checkEnd()
	if r.log.o.Progress != nil && len(r.chain) > 0 {
		r.log.o.Progress(r.total, r.total)
	}
	return nil
}

// readEnd is up to where a segment of the chain is read.
func (f *segmentFile) readEnd() int64 {
	if f.sealed >= 0 {
		return f.sealed
	}
	return f.scan.size
}

func (r *recovery) progress(n int) {
	const step = 64 << 20
	r.done += int64(n)
	if r.log.o.Progress != nil && r.done-r.reported >= step {
		r.reported = r.done
		r.log.o.Progress(min(r.done, r.total), r.total)
	}
}

// enter notes what is wrong with the chain in front of its segment i.
func (r *recovery) enter(f *segmentFile, i int) {
	if last := r.replay.lastRegion(); last != nil && last.lastLost == 0 && f.valid {
		last.lastLost = max(f.firstSequence, 1) - 1
	}
	if !f.valid {
		r.sequence = 0
		r.replay.lose(&lostRegion{file: segmentName(f.id), expected: "a segment header",
			found: "bytes that are none", attributed: true})
		return
	}
	if i > 0 && r.chain[i-1].id != f.previous {
		r.replay.lose(&lostRegion{file: segmentName(f.previous), expected: "a segment",
			found: "no file", firstLost: r.sequence, lastLost: f.firstSequence - 1})
	}
	r.sequence = f.firstSequence
}

// checkEnd compares the end of the log with what the superblock knows to have been durable. If it
// was written at a clean close, what is lost stands in it; otherwise any group may have had more.
func (r *recovery) checkEnd() {
	if !r.lostEnd() {
		return
	}
	region := &lostRegion{file: segmentName(r.super.segment), offset: r.super.durable,
		expected:   fmt.Sprintf("frames up to %d", r.super.sequence-1),
		found:      fmt.Sprintf("frames up to %d", max(r.sequence, 1)-1),
		attributed: r.super.clean, firstLost: r.sequence}
	if n := len(r.chain); n > 0 && r.chain[n-1].id == r.super.segment {
		region.offset = r.end
	} else {
		region.offset, region.found = 0, "no file"
	}
	r.replay.lose(region)
}

// lostEnd says whether the log ends before what the superblock knows of, or lacks its segment.
func (r *recovery) lostEnd() bool {
	if r.super == nil || len(r.super.groups) == 0 {
		return false // nothing was ever acknowledged
	}
	newest := uint64(0)
	if n := len(r.chain); n > 0 {
		newest = r.chain[n-1].id
	}
	return r.super.sequence > max(r.sequence, 1) || r.super.segment > newest
}

// checkFresh refuses segments that nobody can read, with Repair too: superblock and headers are lost,
// and with them the salt of every checksum. A new log has none, because its superblock comes first.
func (r *recovery) checkFresh() error {
	if r.identity != (Identity{}) {
		return nil
	}
	for _, f := range r.files {
		zero, err := f.scan.zeroUntil(0, f.scan.size)
		if err != nil {
			return fmt.Errorf("wal: read segment %d: %w", f.id, err)
		}
		if !zero {
			return &DamageError{File: segmentName(f.id), Expected: "a segment header or a superblock",
				Found: "neither"}
		}
	}
	return nil
}

func (r *recovery) checkIdentity() error {
	want := r.log.o.Identity
	if r.identity == (Identity{}) {
		return nil
	}
	if r.identity.ClusterID != want.ClusterID || r.identity.NodeID != want.NodeID {
		return &IdentityError{Dir: r.log.o.Dir, Want: want, Found: r.identity}
	}
	r.log.identity = r.identity
	return nil
}

// link finds the newest segment that was in use and follows the headers back from there. Newer
// files were never activated; older ones that no header leads to were replaced.
func (r *recovery) link() error {
	n := len(r.files)
	touched := false
	for ; n > 0; n-- {
		f := r.files[n-1]
		used, written, err := f.active(r.super)
		if err != nil {
			return fmt.Errorf("wal: read segment %d: %w", f.id, err)
		}
		if used {
			break
		}
		touched = touched || written
	}
	for _, f := range r.files[n:] {
		if n > 0 && f.valid && f.previous == r.files[n-1].id {
			r.files[n-1].proven = f.previousEnd
		}
		// An activation that a crash has torn may have left frames that are valid in this file; a
		// file newer than that must not be used before it has gone.
		if touched || f.scan.size != r.log.o.SegmentBytes || len(r.spares) >= preparedMax {
			r.useless = append(r.useless, f)
		} else {
			r.spares = append(r.spares, f)
		}
	}
	r.follow(n - 1)
	return nil
}

// follow builds the chain from the newest segment, which is files[n], back to the oldest.
func (r *recovery) follow(n int) {
	for n >= 0 {
		f := r.files[n]
		r.chain = append(r.chain, f)
		n--
		if !f.valid {
			// The header would say where the log comes from; the file before it is all there is.
			continue
		}
		for ; n >= 0 && r.files[n].id > f.previous; n-- {
			r.useless = append(r.useless, r.files[n])
		}
		if n >= 0 && r.files[n].id == f.previous {
			r.files[n].sealed = f.previousEnd
		}
	}
	for i, k := 0, len(r.chain)-1; i < k; i, k = i+1, k-1 {
		r.chain[i], r.chain[k] = r.chain[k], r.chain[i]
	}
}
