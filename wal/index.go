package wal

// location is where one entry stands. The zero segment means that the entry is missing: the index
// is known to exist, its bytes are not there (yet). Its term may still be known.
type location struct {
	term    uint64
	offset  uint32
	word    uint32
	segment uint32
}

func (p location) missing() bool { return p.segment == 0 }

// size is the encoded size of the entry.
func (p location) size() int64 { return entryBytes(wordBytes(p.word)) }

const chunkLocations = 512

// index maps the entries (mark, last] of a group to their locations. It is made of chunks so that
// neither growth nor compaction copies it. All chunks but the last are full.
type index struct {
	base   uint64 // index of the entry at chunks[0][0]
	mark   uint64 // everything up to here is compacted; base <= mark+1
	last   uint64 // last >= mark
	chunks [][]location
}

func (x *index) reset(mark uint64) { *x = index{base: mark + 1, mark: mark, last: mark} }

func (x *index) has(i uint64) bool { return i > x.mark && i <= x.last }

// at returns the location of entry i, which the index must have.
func (x *index) at(i uint64) *location {
	k := i - x.base
	return &x.chunks[k/chunkLocations][k%chunkLocations]
}

// push adds the location of entry last+1.
func (x *index) push(p location) {
	n := len(x.chunks)
	if n == 0 || len(x.chunks[n-1]) == chunkLocations {
		chunk := []location(nil)
		if n > 0 { // the first one grows, for there are many small groups
			chunk = make([]location, 0, chunkLocations)
		}
		x.chunks = append(x.chunks, chunk)
		n++
	}
	x.chunks[n-1] = append(x.chunks[n-1], p)
	x.last++
}

// truncate drops everything behind last.
func (x *index) truncate(last uint64) {
	if last >= x.last {
		return
	}
	keep := int(last + 1 - x.base)
	full := (keep + chunkLocations - 1) / chunkLocations
	clear(x.chunks[full:])
	x.chunks = x.chunks[:full]
	if full > 0 {
		x.chunks[full-1] = x.chunks[full-1][:keep-(full-1)*chunkLocations]
	}
	x.last = last
}

// compact drops everything up to mark, which may lie behind last.
func (x *index) compact(mark uint64) {
	if mark >= x.last {
		x.reset(mark)
		return
	}
	x.mark = max(x.mark, mark)
	for x.base+chunkLocations <= x.mark+1 {
		x.chunks[0] = nil
		x.chunks = x.chunks[1:]
		x.base += chunkLocations
	}
}

// nextPresent is the lowest index from i on that is there, last+1 if none is.
func (x *index) nextPresent(i uint64) uint64 {
	for i <= x.last && x.at(i).missing() {
		i++
	}
	return i
}

// nextMissing is the lowest index from i on that is missing, 0 if none is.
func (x *index) nextMissing(i uint64) uint64 {
	for ; i <= x.last; i++ {
		if x.at(i).missing() {
			return i
		}
	}
	return 0
}
