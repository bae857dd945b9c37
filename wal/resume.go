package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/connectraft/connect/internal/vfs"
)

func newLog(o Options, lock io.Closer) *Log {
	l := &Log{o: o, lock: lock, sequence: 1, cache: cache{limit: o.CacheBytes}}
	l.groups.byID = make(map[uint64]*Group)
	l.worker = newWorker(l)
	return l
}

// resume makes the log ready for appends.
//
// After a clean close it goes on where it ended. Otherwise it begins a new segment, and moves
// there what stands in the old one behind the last offset that is known to have been synced: the
// kernel may hold those pages for clean although a sync of an earlier process had failed. The
// header of the new segment says where the old one ends, so what was moved and what was torn is
// never read again, and the whole step counts when its one write is durable.
//
// A process that was killed may have left names that a power cut still takes away. The log goes on in
// files that it found under their names, and removes others that it no longer needs, so the names are
// made durable first.
func (r *recovery) resume() error {
	l := r.log
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return fmt.Errorf("wal: sync %s: %w", l.o.Dir, err)
	}
	l.sequence = max(r.sequence, 1)
	if r.super != nil {
		l.sequence = max(l.sequence, r.super.sequence)
	}
	if l.identity == (Identity{}) {
		if err := r.create(); err != nil {
			return err
		}
	}
	for _, f := range r.chain {
		f.end = f.sealed
		l.segs.list = append(l.segs.list, f.segment)
	}
	r.nextID = r.unusedID()
	if r.clean() {
		l.active = r.chain[len(r.chain)-1].segment
		l.active.end, l.durable = r.end, r.end
	} else if err := r.begin(); err != nil {
		l.segs.list = nil
		return err
	}
	l.account()
	r.handOver()
	return r.tidy()
}

// clean says whether the log can go on in its newest segment.
func (r *recovery) clean() bool {
	if r.super == nil || !r.super.clean || len(r.chain) == 0 || len(r.replay.regions) > 0 {
		return false
	}
	f := r.chain[len(r.chain)-1]
	return f.valid && r.super.segment == f.id && r.super.durable == r.end &&
		r.super.sequence == r.sequence && !r.more
}

// create decides whose log this is. The superblock is written first, so a crash behind it goes on
// with the same incarnation.
func (r *recovery) create() error {
	l := r.log
	l.identity = l.o.Identity
	if l.identity.Incarnation == 0 {
		var b [8]byte
		if _, err := io.ReadFull(l.o.Rand, b[:]); err != nil {
			return fmt.Errorf("wal: draw an incarnation: %w", err)
		}
		l.identity.Incarnation = binary.LittleEndian.Uint64(b[:]) | 1
	}
	if err := l.super.create(l.o.FS, l.o.Dir); err != nil {
		return err
	}
	s := superblock{counter: 1, identity: l.identity, sequence: 1}
	l.super.counter = 1
	if err := l.super.write(s.encode()); err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	return nil
}

// unusedID is above every id that was ever in use.
func (r *recovery) unusedID() uint64 {
	id := uint64(1)
	if r.super != nil {
		id = r.super.segment + 1
	}
	if n := len(r.files); n > 0 {
		id = max(id, r.files[n-1].id+1)
	}
	return id
}

// begin activates a new segment behind the chain.
func (r *recovery) begin() error {
	l := r.log
	previous, cut := r.cut()
	moved, err := l.moveFrom(cut)
	if err != nil {
		return err
	}
	need := int64(sectorBytes)
	for i := range moved {
		need += frameBytesOf(&moved[i].header, &moved[i].source)
	}
	size := l.segmentSize(need)
	s, err := r.newSegment(size)
	if errors.Is(err, vfs.ErrNoSpace) {
		var dropped bool
		if dropped, err = dropBallast(l.o.FS, l.o.Dir); dropped {
			s, err = r.newSegment(size)
		} else if err == nil {
			err = vfs.ErrNoSpace
		}
	}
	if err != nil {
		return diskFull(fmt.Errorf("wal: begin a segment: %w", err))
	}
	if err := r.activate(s, previous, cut, moved); err != nil {
		return diskFull(joinClose(err, s))
	}
	return nil
}

// newSegment returns an empty segment of at least size bytes.
func (r *recovery) newSegment(size int64) (*segment, error) {
	l := r.log
	if len(r.spares) == 0 {
		return createSegment(l.o.FS, l.o.Dir, r.nextID, size)
	}
	s := r.spares[0].segment
	if s.size < size {
		if err := growSegment(s, size); err != nil {
			return nil, err
		}
	}
	r.spares[0].given, r.spares = true, r.spares[1:]
	return s, nil
}

// diskFull marks an error for want of space as ErrDiskFull.
func diskFull(err error) error {
	if errors.Is(err, vfs.ErrNoSpace) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

func joinClose(err error, s *segment) error {
	if closeErr := s.release(); closeErr != nil {
		return fmt.Errorf("%w (and %w)", err, closeErr)
	}
	return err
}

// cut returns the segment that a new one follows, nil for the first, and from where on the log is
// moved. A segment of which nothing is known to be durable is replaced as a whole, and so is one
// that holds nothing but its head, or else a crash loop would fill the disk with such.
func (r *recovery) cut() (*segmentFile, place) {
	n := len(r.chain)
	if n == 0 {
		return nil, place{}
	}
	f := r.chain[n-1]
	if r.durable > 0 && (r.end > f.activationEnd || len(r.replay.regions) > 0) {
		return f, place{segment: f.segment, offset: r.durable}
	}
	r.useless = append(r.useless, f)
	r.chain = r.chain[:n-1]
	if n == 1 {
		return nil, place{segment: f.segment}
	}
	return r.chain[n-2], place{segment: f.segment}
}

// activate writes the head of a new segment, makes it durable, and points the index to what was
// moved.
func (r *recovery) activate(s *segment, previous *segmentFile, cut place,
	frames []stagedFrame) error {
	l := r.log
	l.round++
	id, end := uint64(0), int64(0)
	if previous != nil {
		id, end = previous.id, previous.sealed
		if previous.segment == cut.segment {
			end = cut.offset
		}
	}
	l.sequence = l.putActivationFrames(s, id, end, frames)
	if _, err := s.file.WriteVectorAt(l.buf.vector(), 0); err != nil {
		return fmt.Errorf("wal: write segment %d: %w", s.id, err)
	}
	if err := s.file.SyncData(); err != nil {
		return fmt.Errorf("wal: sync segment %d: %w", s.id, err)
	}
	s.end = int64(l.buf.size())
	l.buf.reset()
	for i := range frames {
		repoint(&frames[i], s)
	}
	if previous == nil {
		l.segs.list = nil
	} else {
		l.segs.list = l.segs.list[:len(r.chain)]
		previous.end = end
	}
	l.segs.list = append(l.segs.list, s)
	l.active, l.durable = s, s.end
	r.nextID = max(r.nextID, s.id+1)
	l.o.Logger.Info("log begins a new segment", "segment", s.id, "previous", id, "end", end)
	return nil
}

// handOver leaves to the log the files that it uses from now on.
func (r *recovery) handOver() {
	var spares []*segment
	for _, f := range r.chain {
		f.given = true
	}
	for _, f := range r.spares {
		f.given = true
		spares = append(spares, f.segment)
	}
	r.log.worker.start(spares, r.nextID)
}

// tidy removes what is of no use, brings the superblock up to date and prepares the next segment.
func (r *recovery) tidy() error {
	l := r.log
	if err := r.release(); err != nil {
		return err
	}
	for _, name := range r.temps {
		if err := removeFile(l.o.FS, l.o.Dir, name); err != nil {
			return err
		}
	}
	for _, f := range r.useless {
		if err := removeFile(l.o.FS, l.o.Dir, segmentName(f.id)); err != nil {
			return err
		}
	}
	if err := l.super.create(l.o.FS, l.o.Dir); err != nil {
		return err
	}
	l.beginRound()
	l.reclaim()
	if r.super != nil && r.super.clean {
		// From here on the clean one would be a lie.
		if err := l.writeSuperblock(false); err != nil {
			return err
		}
	}
	if l.super.sequence != l.sequence {
		l.worker.writeSuperblock(l.nextSuperblock(false))
	}
	l.worker.prepare()
	return nil
}
