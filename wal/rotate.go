package wal

import (
	"errors"
	"fmt"
	"math"

	"github.com/connectraft/connect/internal/vfs"
)

// takeNext returns a prepared segment with room for its activation and need bytes, after it has
// made the active one durable: a frame in a segment proves that every older one was synced.
// Until adopt the segment stays in l.next, and the log as it was.
func (l *Log) takeNext(need int64) (*segment, error) {
	if err := l.syncActive(); err != nil {
		return nil, err
	}
	size := l.segmentSize(need)
	if l.next == nil {
		next, err := l.worker.take()
		if err != nil {
			return nil, l.spaceError(fmt.Errorf("wal: rotate: %w", err))
		}
		l.next = next
	}
	if l.next.id > math.MaxUint32 {
		return nil, l.poison(fmt.Errorf("segment id %d is over the limit of the format", l.next.id))
	}
	if l.next.size < size {
		if err := growSegment(l.next, size); err != nil {
			return nil, l.spaceError(fmt.Errorf("wal: grow segment %d: %w", l.next.id, err))
		}
	}
	return l.next, nil
}

// activationShare bounds the part of a segment that its activation takes, so that a log of very
// many groups does not spend itself on checkpoints.
const activationShare = 4

// segmentSize is the size of a segment that needs so many bytes besides its header and checkpoints.
func (l *Log) segmentSize(need int64) int64 {
	head := l.checkpointBytes()
	return max(l.o.SegmentBytes, alignUp(max(head*activationShare, head+need), fillAlignBytes))
}

// fillAlignBytes is what the size of a segment is a multiple of if it had to grow.
const fillAlignBytes = 4 << 10

// growSegment makes a prepared segment larger.
func growSegment(s *segment, size int64) error {
	if err := s.file.Preallocate(size); err != nil {
		return err
	}
	if err := writeZeros(s.file, s.size, size); err != nil {
		return err
	}
	s.size = size
	return nil
}

// spaceError decides what a failure to get the next segment means. Nothing of the log was touched,
// so a full disk and the want of a file handle are retryable; anything else ends the log.
func (l *Log) spaceError(err error) error {
	switch {
	case errors.Is(err, vfs.ErrNoSpace):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case errors.Is(err, vfs.ErrNoHandles):
		return &handlesError{err: err}
	}
	return l.poison(err)
}

// checkpointBytes is the size of a segment's header and a checkpoint of each group, filled up to a
// whole sector.
func (l *Log) checkpointBytes() int64 {
	n := int64(sectorBytes)
	for _, g := range l.sortedGroups() {
		if g.sequence != 0 {
			f := checkpointOf(g, g.index.last)
			n += frameBytesOf(&f.header, &f.source)
		}
	}
	return alignUp(n, sectorBytes)
}

// checkpointOf makes the frame that says all about a group but its entries, as if its log ended
// at last.
func checkpointOf(g *Group, last uint64) stagedFrame {
	f := stagedFrame{group: g, header: header{
		kind: frameCheckpoint, group: g.id, state: g.state, first: last + 1,
		priorTerm: g.termAt(last), base: g.mark.Index, baseTerm: g.mark.Term,
	}}
	if g.mark.ConfState != nil {
		f.header.flags |= flagConf
		f.source.conf = g.conf
	}
	if g.fenced {
		f.header.flags |= flagFence
		f.source.floor = g.floor
	}
	return f
}

// putActivation encodes the head of a segment that follows previous to the empty buffer, and
// returns the sequence of the frame behind it.
func (l *Log) putActivation(s *segment, previous uint64, previousEnd int64) uint64 {
	var frames []stagedFrame
	for _, g := range l.sortedGroups() {
		if g.sequence != 0 {
			frames = append(frames, checkpointOf(g, g.index.last))
		}
	}
	return l.putActivationFrames(s, previous, previousEnd, frames)
}

func (l *Log) putActivationFrames(s *segment, previous uint64, previousEnd int64,
	frames []stagedFrame) uint64 {
	s.previous, s.previousEnd = previous, previousEnd
	s.identity, s.firstSequence = l.identity, l.sequence
	s.salt = saltOf(l.identity.Incarnation, s.id)
	sequence := l.sequence
	l.buf.reset()
	l.buf.put(zeros[:])
	for i := range frames {
		f := &frames[i]
		t := l.encodingTip(f.group)
		f.offset = int64(l.buf.size())
		f.header.sequence, f.header.previous = sequence, t.sequence
		t.sequence = sequence
		sequence++
		putFrame(&l.buf, &f.header, &f.source, s.salt, 0)
	}
	l.buf.pad(0, sectorBytes)
	s.activationEnd, s.activationLast = int64(l.buf.size()), sequence
	s.put(l.buf.encoded)
	return sequence
}

// adopt makes the prepared segment the active one. Its activation is written.
func (l *Log) adopt(next *segment) {
	l.segs.Lock()
	l.segs.list = append(l.segs.list, next)
	l.segs.Unlock()
	for _, g := range l.sortedGroups() {
		if g.tip.round == l.round && g.tip.sequence != 0 {
			l.publishSequence(g)
		}
	}
	l.active, l.next = next, nil
	l.durable = 0
	l.rotations.Add(1)
	l.worker.prepare()
	l.o.Logger.Debug("segment activated", "segment", next.id)
}
