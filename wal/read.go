package wal

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// readBytesMax is the most that one read of a segment takes, unless a single entry is larger.
const readBytesMax = 4 << 20

// frameGapMax is how much between two entries is read along rather than read around.
const frameGapMax = 4 << 10

// span is a run of entries in one segment that one read gets.
type span struct {
	segment    uint32
	from, to   int64
	firstIndex uint64
	places     []location
}

// Entries returns the entries from lo on, up to but without hi, and stops in front of the entry
// that brings their encoded bytes above maxBytes; it returns at least one. The slice is the
// caller's, the entries are not: nobody changes them. Recent ones come from memory; older ones
// are read, at most 4 MiB at a time, and each is verified.
//
// It returns raft.ErrCompacted if lo is before FirstIndex, raft.ErrUnavailable if hi is behind
// LastIndex+1, and a *DamageError if the disk gives back what was not written.
func (g *Group) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	for {
		entries, spans, err := g.lookup(lo, hi, maxBytes)
		if err != nil || len(spans) == 0 {
			return entries, err
		}
		entries, gone, err := g.log.readSpans(g.id, spans, entries)
		if err != nil || !gone {
			return entries, err
		}
		// A segment went while we were on our way: the group does not need it any more, so the
		// index has changed and the next look at it differs.
	}
}

// lookup returns either cached entries or the spans to read, and in the second case a slice with
// room for what they hold.
func (g *Group) lookup(lo, hi, maxBytes uint64) ([]*raftpb.Entry, []span, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	switch {
	case lo <= g.mark.Index:
		return nil, nil, raft.ErrCompacted
	case hi > g.visible+1:
		return nil, nil, raft.ErrUnavailable
	case lo >= hi:
		return nil, nil, nil
	}
	if len(g.cached) > 0 && lo >= g.cachedFirst {
		from := g.cached[lo-g.cachedFirst : hi-g.cachedFirst]
		return append([]*raftpb.Entry(nil), from[:limitEntries(from, maxBytes)]...), nil, nil
	}
	bytes, end := uint64(0), lo
	for ; end < hi; end++ {
		bytes += uint64(g.index.at(end).size())
		if end > lo && bytes > maxBytes {
			break
		}
	}
	return make([]*raftpb.Entry, 0, end-lo), g.spansOf(lo, end), nil
}

// spansOf returns the spans of entries [lo, hi). The caller holds mu or is the appender.
func (g *Group) spansOf(lo, hi uint64) []span {
	places := make([]location, 0, hi-lo)
	var spans []span
	for i := lo; i < hi; i++ {
		p := g.index.at(i)
		places = append(places, p)
		n := len(spans)
		if n > 0 && spans[n-1].takes(p) {
			spans[n-1].to = int64(p.offset) + p.size()
			spans[n-1].places = places[spans[n-1].firstIndex-lo:]
			continue
		}
		spans = append(spans, span{segment: p.segment, from: int64(p.offset),
			to: int64(p.offset) + p.size(), firstIndex: i, places: places[i-lo:]})
	}
	return spans
}

// takes says whether one read may get an entry along with those of the span.
func (s *span) takes(p location) bool {
	from := int64(p.offset)
	return s.segment == p.segment && from >= s.to && from-s.to <= frameGapMax &&
		from+p.size()-s.from <= readBytesMax
}

func limitEntries(entries []*raftpb.Entry, maxBytes uint64) int {
	bytes := uint64(0)
	for i, e := range entries {
		bytes += uint64(entryBytes(len(e.GetData())))
		if i > 0 && bytes > maxBytes {
			return i
		}
	}
	return len(entries)
}

// readSpans reads entries behind those given. It reports gone if a segment was removed meanwhile.
func (l *Log) readSpans(group uint64, spans []span, entries []*raftpb.Entry) (
	_ []*raftpb.Entry, gone bool, _ error) {
	for i := range spans {
		s := l.segment(spans[i].segment)
		if s == nil {
			return nil, true, l.usableForReads()
		}
		var err error
		entries, err = s.read(group, &spans[i], entries)
		if err = closeAfter(err, s.release()); err != nil {
			return nil, false, err
		}
	}
	return entries, false, nil
}

func closeAfter(err, closeErr error) error {
	if err != nil {
		return err
	}
	return closeErr
}

// segment returns a segment with a reference for the caller, or nil if it is gone.
func (l *Log) segment(id uint32) *segment {
	l.segs.RLock()
	defer l.segs.RUnlock()
	if s := findSegment(l.segs.list, uint64(id)); s != nil && s.acquire() {
		return s
	}
	return nil
}

func findSegment(list []*segment, id uint64) *segment {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].id == id {
			return list[i]
		}
	}
	return nil
}

// read reads one span and appends its entries.
func (s *segment) read(group uint64, sp *span, entries []*raftpb.Entry) ([]*raftpb.Entry, error) {
	buf := make([]byte, sp.to-sp.from)
	if _, err := s.file.ReadAt(buf, sp.from); err != nil {
		return nil, fmt.Errorf("wal: read segment %d at %d: %w", s.id, sp.from, err)
	}
	n := len(sp.places)
	slab := make([]raftpb.Entry, n)
	words := make([]uint64, 2*n)
	types := make([]raftpb.EntryType, n)
	for i, p := range sp.places {
		at := int64(p.offset) - sp.from
		word, term, size := entryAt(buf[at:], s.salt, int64(p.offset))
		index := sp.firstIndex + uint64(i)
		if size == 0 || word != p.word || term != p.term {
			return nil, &DamageError{File: segmentName(s.id), Offset: int64(p.offset), Group: group,
				FirstIndex: index, LastIndex: index, Floor: index,
				Expected: fmt.Sprintf("entry of term %d with %d bytes", p.term, wordBytes(p.word)),
				Found:    "bytes that fail their checksum"}
		}
		e := &slab[i]
		words[2*i], words[2*i+1], types[i] = term, index, wordType(word)
		e.Term, e.Index, e.Type = &words[2*i], &words[2*i+1], &types[i]
		if word&entryPresent != 0 {
			from := at + entryHeaderBytes
			to := from + int64(wordBytes(word))
			e.Data = buf[from:to:to]
		}
		entries = append(entries, e)
	}
	return entries, nil
}
