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

// slot is a location in little memory: what entries beside each other share is in index.origins.
type slot struct {
	offset uint32
	word   uint32
	origin uint32
}

// origin is the term and the segment of entries.
type origin struct {
	term    uint64
	segment uint32
}

const (
	chunkSlots = 512
	// originsMin is how many origins are no matter.
	originsMin = 64
)

// index maps the entries (mark, last] of a group to their locations. It is made of chunks so that
// neither growth nor compaction copies it. All chunks but the last are full.
type index struct {
	base   uint64 // index of the entry at chunks[0][0]
	mark   uint64 // everything up to here is compacted; base <= mark+1
	last   uint64 // last >= mark
	chunks [][]slot
	// origins has a new element whenever an entry comes from elsewhere than the one that came before
	// it. Those that are of no use any more are swept out when there are sweepAt.
	origins []origin
	sweepAt int
	// holes says that an entry may be missing; without it none is.
	holes bool
}

func (x *index) reset(mark uint64) { *x = index{base: mark + 1, mark: mark, last: mark} }

func (x *index) has(i uint64) bool { return i > x.mark && i <= x.last }

// slotAt returns the slot of entry i, which the index must have.
func (x *index) slotAt(i uint64) *slot {
	k := i - x.base
	return &x.chunks[k/chunkSlots][k%chunkSlots]
}

// at returns the location of entry i, which the index must have.
func (x *index) at(i uint64) location { return x.locate(x.slotAt(i)) }

func (x *index) locate(s *slot) location {
	o := x.origins[s.origin]
	return location{term: o.term, offset: s.offset, word: s.word, segment: o.segment}
}

// set replaces the location of entry i, which the index must have.
func (x *index) set(i uint64, p location) {
	from := x.originOf(p.term, p.segment)
	*x.slotAt(i) = slot{offset: p.offset, word: p.word, origin: from}
}

// push adds the location of entry last+1.
func (x *index) push(p location) {
	from := x.originOf(p.term, p.segment)
	chunk := x.room()
	*chunk = append(*chunk, slot{offset: p.offset, word: p.word, origin: from})
	x.last++
}

// pushAll adds the locations of the entries from last+1 on, which are in one segment.
func (x *index) pushAll(places []location, segment uint32) {
	for len(places) > 0 {
		term := places[0].term
		from := x.originOf(term, segment)
		room := x.room()
		chunk := *room
		for len(places) > 0 && places[0].term == term && len(chunk) < chunkSlots {
			p := &places[0]
			chunk = append(chunk, slot{offset: p.offset, word: p.word, origin: from})
			x.last++
			places = places[1:]
		}
		*room = chunk
	}
}

// room returns the last chunk, which has room for one more slot at least.
func (x *index) room() *[]slot {
	n := len(x.chunks)
	if n == 0 || len(x.chunks[n-1]) == chunkSlots {
		chunk := []slot(nil)
		if n > 0 { // the first one grows, for there are many small groups
			chunk = make([]slot, 0, chunkSlots)
		}
		x.chunks = append(x.chunks, chunk)
		n++
	}
	return &x.chunks[n-1]
}

// originOf returns the number of an origin, which is valid until the next call.
func (x *index) originOf(term uint64, segment uint32) uint32 {
	o := origin{term: term, segment: segment}
	x.holes = x.holes || segment == 0
	if n := len(x.origins); n > 0 && x.origins[n-1] == o {
		return uint32(n - 1)
	}
	if len(x.origins) >= max(x.sweepAt, originsMin) {
		x.sweep()
	}
	x.origins = append(x.origins, o)
	return uint32(len(x.origins) - 1)
}

// sweep drops the origins that no entry has.
func (x *index) sweep() {
	const unused = ^uint32(0)
	number := make([]uint32, len(x.origins))
	for i := range number {
		number[i] = unused
	}
	var origins []origin
	for _, chunk := range x.chunks {
		for i := range chunk {
			s := &chunk[i]
			if number[s.origin] == unused {
				number[s.origin] = uint32(len(origins))
				origins = append(origins, x.origins[s.origin])
			}
			s.origin = number[s.origin]
		}
	}
	x.origins, x.sweepAt = origins, 2*len(origins)
}

// truncate drops everything behind last.
func (x *index) truncate(last uint64) {
	if last >= x.last {
		return
	}
	keep := int(last + 1 - x.base)
	full := (keep + chunkSlots - 1) / chunkSlots
	clear(x.chunks[full:])
	x.chunks = x.chunks[:full]
	if full > 0 {
		x.chunks[full-1] = x.chunks[full-1][:keep-(full-1)*chunkSlots]
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
	for x.base+chunkSlots <= x.mark+1 {
		x.chunks[0] = nil
		x.chunks = x.chunks[1:]
		x.base += chunkSlots
	}
}

// bytesByOrigin adds up the encoded sizes of the entries of each origin.
func (x *index) bytesByOrigin() []int64 {
	bytes := make([]int64, len(x.origins))
	skip := int(x.mark + 1 - x.base) // of the first chunk
	for _, chunk := range x.chunks {
		from, sum := uint32(0), int64(0)
		for i := range chunk[skip:] {
			s := &chunk[skip+i]
			if s.origin != from {
				bytes[from] += sum
				from, sum = s.origin, 0
			}
			sum += entryBytes(wordBytes(s.word))
		}
		bytes[from] += sum
		skip = 0
	}
	return bytes
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
	for ; x.holes && i <= x.last; i++ {
		if x.at(i).missing() {
			return i
		}
	}
	return 0
}
