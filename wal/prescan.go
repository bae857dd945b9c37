package wal

import "runtime"

const (
	// prescansMax is how many segments are read beside the one that is replayed.
	prescansMax = 3
	// prescanBytes is about how much memory the frames of one of them take.
	prescanBytes = 16 << 20
)

// prescan is what a goroutine has read of a segment before its turn: whole frames from the front on,
// and the padding between them. It ends at the first place that is anything else, or when it is large
// enough; from there on the replay reads for itself, and whatever is wrong is for it to judge.
type prescan struct {
	frames []scannedFrame
	places []location
	heads  []byte
	// next is the frame that is likely to be asked for.
	next  int
	done  chan struct{}
	array []byte
}

// scannedFrame is a whole frame, or padding up to the end of a sector.
type scannedFrame struct {
	header  header
	offset  int64
	padding bool
	// places and heads are where those of the frame behind this one begin in the prescan.
	places, heads int
}

const (
	scannedFrameBytes = 160
	locationBytes     = 24
)

// prescanCount is how many prescans run at once: none where the log must start no goroutine.
func (l *Log) prescanCount() int {
	if l.o.Inline {
		return 0
	}
	return min(runtime.GOMAXPROCS(0)-1, prescansMax)
}

// prescan begins to read the segment from its first frame up to end, with the memory of used, which
// may be nil.
func (f *segmentFile) prescan(end int64, used *prescan) {
	p := &prescan{done: make(chan struct{})}
	if used != nil {
		p.frames, p.places, p.heads = used.frames[:0], used.places[:0], used.heads[:0]
		p.array = used.array
	}
	f.scan.ready = p
	s := scanner{file: f.file, salt: f.salt, size: f.scan.size, array: p.array}
	go func() {
		defer close(p.done)
		for at := int64(sectorBytes); at >= 0 && at < end && p.bytes() < prescanBytes; {
			at = p.take(&s, at)
		}
		p.array = s.array
	}()
}

func (p *prescan) bytes() int {
	return len(p.frames)*scannedFrameBytes + len(p.places)*locationBytes + len(p.heads)
}

// take adds what stands at an offset and returns where it ends, or -1.
func (p *prescan) take(s *scanner, at int64) int64 {
	status, h, payload, err := s.frame(at)
	f := scannedFrame{header: h, offset: at, padding: status == frameNone}
	end := alignUp(at, sectorBytes)
	switch {
	case err != nil || len(s.refused) > 0 || status == frameTorn:
		return -1
	case status == frameWhole:
		p.places = append(p.places, s.places...)
		p.heads = append(p.heads, payload[:h.headBytes]...)
		end = at + h.frameBytes()
	default:
		zero, err := s.padding(at, end)
		if !zero || err != nil || len(s.refused) > 0 {
			return -1
		}
	}
	f.places, f.heads = len(p.places), len(p.heads)
	p.frames = append(p.frames, f)
	return end
}

// at returns what stands at an offset, with the head and the places of a frame; nil if that was not
// read.
func (p *prescan) at(offset int64) (f *scannedFrame, head []byte, places []location) {
	if p == nil {
		return nil, nil, nil
	}
	for p.next < len(p.frames) && p.frames[p.next].offset < offset {
		p.next++
	}
	if p.next == len(p.frames) || p.frames[p.next].offset != offset {
		return nil, nil, nil
	}
	before := scannedFrame{}
	if p.next > 0 {
		before = p.frames[p.next-1]
	}
	f = &p.frames[p.next]
	places = p.places[before.places:f.places:f.places] // what is behind is not the caller's
	return f, p.heads[before.heads:f.heads], places
}

// wait returns when nothing reads the file any more, with about the bytes that were read.
func (p *prescan) wait() int {
	if p == nil {
		return 0
	}
	<-p.done
	if len(p.frames) == 0 {
		return 0
	}
	return int(p.frames[len(p.frames)-1].offset)
}
