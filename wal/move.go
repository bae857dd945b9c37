package wal

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// place is a position in the log.
type place struct {
	segment *segment
	offset  int64
}

// moveFrom returns the frames that say again what stands behind a place: a checkpoint of each
// group as if that had not been written, and then the entries.
func (l *Log) moveFrom(cut place) ([]stagedFrame, error) {
	var checkpoints, moved []stagedFrame
	for _, g := range l.sortedGroups() {
		if g.sequence == 0 {
			continue
		}
		keep := g.index.last
		for keep > g.index.mark && cut.moves(g.index.at(keep)) {
			keep--
		}
		checkpoints = append(checkpoints, checkpointOf(g, keep))
		frames, err := l.moveGroup(g, cut, keep)
		if err != nil {
			return nil, err
		}
		moved = append(moved, frames...)
	}
	return append(checkpoints, moved...), nil
}

// moves says whether an entry stands behind the cut.
func (c place) moves(p location) bool {
	return !p.missing() && c.segment != nil && uint64(p.segment) == c.segment.id &&
		int64(p.offset) >= c.offset
}

// moveGroup makes a frame for every run of entries behind the cut: one that appends those behind
// keep, and others that fill in.
func (l *Log) moveGroup(g *Group, cut place, keep uint64) ([]stagedFrame, error) {
	var frames []stagedFrame
	for i := g.index.mark + 1; i <= keep; i++ {
		if !cut.moves(g.index.at(i)) {
			continue
		}
		from := i
		for i < keep && cut.moves(g.index.at(i+1)) {
			i++
		}
		f, err := l.moveRun(g, frameFill, from, i)
		if err != nil {
			return nil, err
		}
		frames = append(frames, f)
	}
	if len(frames) > 0 && keep == g.index.last {
		frames = append(frames, tailFrame(g))
	}
	if keep < g.index.last {
		f, err := l.moveRun(g, frameAppend, keep+1, g.index.last)
		if err != nil {
			return nil, err
		}
		frames = append(frames, f)
	}
	return frames, nil
}

// tailFrame says where the log of a group ends, which a frameFill does not. Without it a frame that
// was lost in front of the fill might never be missed.
func tailFrame(g *Group) stagedFrame {
	last := g.index.last
	return stagedFrame{group: g, header: header{kind: frameAppend, group: g.id, state: g.state,
		first: last + 1, priorTerm: g.termAt(last), base: g.mark.Index, baseTerm: g.mark.Term}}
}

// moveRun reads entries [from, to], also such as are not visible, and makes a frame of them.
func (l *Log) moveRun(g *Group, kind frameType, from, to uint64) (stagedFrame, error) {
	entries, err := l.readPlaces(g, from, to)
	if err != nil {
		return stagedFrame{}, err
	}
	f := stagedFrame{group: g, header: header{kind: kind, group: g.id, state: g.state,
		first: from, priorTerm: g.termAt(from - 1), base: g.mark.Index, baseTerm: g.mark.Term}}
	f.source.entries = entries
	return f, nil
}

func (l *Log) readPlaces(g *Group, from, to uint64) ([]*raftpb.Entry, error) {
	entries, gone, err := l.readSpans(g.id, g.spansOf(from, to+1), nil)
	if err == nil && gone {
		err = fmt.Errorf("wal: group %d: a segment with entries %d to %d is gone", g.id, from, to)
	}
	return entries, err
}

// repoint moves the locations of a frame's entries to where it was written now.
func repoint(f *stagedFrame, s *segment) {
	g := f.group
	g.sequence = g.tip.sequence
	at := f.offset + frameHeaderBytes + alignUp(int64(f.header.headBytes), frameAlign)
	for _, e := range f.source.entries {
		p := g.index.at(e.GetIndex())
		p.offset, p.segment = uint32(at), uint32(s.id)
		g.index.set(e.GetIndex(), p)
		at += p.size()
	}
}
