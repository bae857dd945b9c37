package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// observe sees a frame on its way into its group.
func (n *inspection) observe(h *header, payload []byte, places []location, s *segment,
	offset int64) error {
	var own *lostRegion
	if payload == nil {
		own = n.replay.lastRegion()
		n.hit[own] = *h
	}
	if err := n.tellRegions(own); err != nil {
		return err
	}
	counted := n.segments[s.id]
	if counted == nil {
		counted = &SegmentReport{}
		n.segments[s.id] = counted
	}
	counted.End = offset + h.frameBytes()
	if own == nil {
		counted.Frames++
		n.report.Frames++
		n.report.Entries += uint64(h.entries)
	}
	if n.visit == nil {
		return nil
	}
	f := frameOf(h, segmentName(s.id), offset)
	if own != nil {
		if went, err := n.went(own); went || err != nil {
			return err
		}
		f.Condition, f.Problem = FrameDamaged, own.describe()
	} else {
		f.Entries = entriesIn(h, payload, places, offset)
	}
	return n.visit(&f)
}

func (r *lostRegion) describe() string {
	return fmt.Sprintf("expected %s, found %s", r.expected, r.found)
}

// tellRegions shows the places without a header that were found since the last call. The frame
// that own belongs to is shown by itself.
func (n *inspection) tellRegions(own *lostRegion) error {
	for ; n.told < len(n.replay.regions); n.told++ {
		r := n.replay.regions[n.told]
		if r == own || n.visit == nil {
			continue
		}
		went, err := n.went(r)
		if err != nil {
			return err
		}
		if went {
			continue
		}
		err = n.visit(&Frame{File: r.file, Offset: r.offset, Sequence: r.firstLost,
			Condition: FrameDamaged, Problem: r.describe()})
		if err != nil {
			return err
		}
	}
	return nil
}

// went reports whether the segment of a region is no part of the log any more. A running log gives the
// file of a segment that nobody needs another name before it writes over it, so what was read there
// may be of the file's next use.
func (n *inspection) went(r *lostRegion) (bool, error) {
	f, err := n.log.o.FS.OpenFile(filepath.Join(n.log.o.Dir, r.file), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("wal: %w", err)
	}
	return false, f.Close()
}

// frameOf describes a frame by its header.
func frameOf(h *header, file string, offset int64) Frame {
	f := Frame{File: file, Offset: offset, Length: h.frameBytes(), Sequence: h.sequence,
		Kind: h.kindName(), Group: h.group, Term: h.state.Term, Vote: h.state.Vote,
		Commit: h.state.Commit, Base: h.base, BaseTerm: h.baseTerm, Condition: FrameWhole}
	if h.entries > 0 {
		f.FirstIndex, f.LastIndex = h.first, h.last()
	}
	return f
}

func (h *header) kindName() string {
	switch h.kind {
	case frameAppend:
		if h.has(flagMark) {
			return "mark"
		}
		return "append"
	case frameCompact:
		return "compact"
	case frameRemove:
		return "remove"
	case frameCheckpoint:
		return "checkpoint"
	case frameFill:
		return "fill"
	case frameFence:
		if h.has(flagFence) {
			return "fence"
		}
		return "unfence"
	}
	return fmt.Sprintf("kind %d", h.kind)
}

// entriesIn cuts the entries out of a payload that verifies.
func entriesIn(h *header, payload []byte, places []location, offset int64) []FrameEntry {
	entries := make([]FrameEntry, len(places))
	for i, p := range places {
		at := int64(p.offset) - offset - frameHeaderBytes + entryHeaderBytes
		entries[i] = FrameEntry{Index: h.first + uint64(i), Term: p.term, Type: wordType(p.word),
			Data: payload[at : at+int64(wordBytes(p.word))]}
	}
	return entries
}

// findTorn looks at what stands behind the end of the log.
func (n *inspection) findTorn() error {
	if len(n.chain) == 0 {
		return nil
	}
	f, at := n.chain[len(n.chain)-1], int64(sectorBytes)
	if counted := n.segments[f.id]; counted != nil {
		at = counted.End
	}
	if next := alignUp(at, sectorBytes); next != at {
		zero, err := f.scan.zeroUntil(at, next)
		if err != nil {
			return err
		}
		if zero {
			at = next
		}
	}
	zero, err := f.scan.zeroUntil(at, f.scan.size)
	if zero || err != nil {
		return err
	}
	status, h, _, err := f.scan.frame(at)
	if err != nil || status == frameWhole && h.sequence == n.sequence {
		return err // a frame that was written since
	}
	torn := &Frame{File: segmentName(f.id), Offset: at, Condition: FrameTorn}
	if status != frameNone {
		*torn = frameOf(&h, torn.File, at)
		torn.Condition = FrameTorn
	}
	torn.Problem = "bytes behind the end of the log that nothing confirms"
	n.report.Torn = torn
	if n.visit == nil {
		return nil
	}
	return n.visit(torn)
}
