package wal

import (
	"fmt"
)

// lostRegion is a part of the log that was durable and cannot be read.
type lostRegion struct {
	file     string
	offset   int64
	expected string
	found    string
	// firstLost to lastLost are the sequences of the frames that stood there, lastLost 0 if that
	// is not known. Each is claimed by the frame of its group that follows it.
	firstLost, lastLost uint64
	claimed             map[uint64]bool
	// attributed says that it is known which groups are hit.
	attributed bool
	// activation is the segment in whose head the region begins, 0 if it is in none.
	activation uint64
}

// resolved says whether every lost frame has been claimed by the group that it belonged to.
func (r *lostRegion) resolved() bool {
	return r.attributed || r.lastLost != 0 && uint64(len(r.claimed)) >= r.lastLost+1-r.firstLost
}

// groupReplay is what recovery knows of a group besides the group itself.
type groupReplay struct {
	// confirmed counts the regions that were found before the last frame of the group.
	confirmed int
	// checkpoint is the segment of the last checkpoint.
	checkpoint uint64
	// cause is the region that cost the group something, floor the highest index it had.
	cause *lostRegion
	floor uint64
	// confLost says that the membership of the mark is lost, lostTail that frames at the end are.
	confLost, lostTail bool
	// commit is the commit index in the last frame that told how the log stands: no frame that is
	// lost behind that has replaced anything up to there.
	commit uint64
	// claims are the lost frames that frames of the group have told of, until one makes them good.
	claims []uint64
	// removed is the sequence of the frame that removed the group last, if it has not come back.
	removed uint64
}

// replay builds the groups from frames, in the order of the log. Where frames are lost, the
// entries that may have been in them become missing; a later frame of the group says in its
// header what the log was like before it, and a checkpoint says it for groups that are idle.
type replay struct {
	log     *Log
	info    map[*Group]*groupReplay
	regions []*lostRegion
	// complete is the sequence behind the last whole activation: a group that it does not name, and
	// that no frame since has made, had been removed.
	complete uint64
	// observe, if not nil, sees every frame at its offset before it is applied; payload and places
	// as for apply.
	observe func(h *header, payload []byte, places []location, s *segment, offset int64) error
}

func (r *replay) group(id uint64) (*Group, *groupReplay) {
	g := r.log.Group(id)
	info := r.info[g]
	if info == nil {
		info = &groupReplay{}
		r.info[g] = info
	}
	return g, info
}

// lose notes a region. What turns out to be missing from here on is its fault.
func (r *replay) lose(region *lostRegion) {
	region.claimed = make(map[uint64]bool)
	r.regions = append(r.regions, region)
	r.log.o.Logger.Warn("damage found", "file", region.file, "offset", region.offset,
		"expected", region.expected, "found", region.found)
}

func (r *replay) lastRegion() *lostRegion {
	if len(r.regions) == 0 {
		return nil
	}
	return r.regions[len(r.regions)-1]
}

// claim notes that the frame with a sequence belonged to a group that goes on.
func (r *replay) claim(sequence uint64) {
	for _, region := range r.regions {
		if sequence >= region.firstLost && sequence <= region.lastLost {
			region.claimed[sequence] = true
		}
	}
}

// apply puts a frame into its group. For a frame whose payload is lost, places is nil and lost is
// true. The segment of places is filled in.
func (r *replay) apply(h *header, payload []byte, places []location, s *segment, lost bool) error {
	g, info := r.group(h.group)
	if h.previous == 0 && g.sequence != 0 && h.kind != frameRemove {
		// The frame that removed the group is lost: this is the first one of another life.
		g.clear()
		info = &groupReplay{}
		r.info[g] = info
	}
	known := g.sequence != 0
	// A frame of the group before this one is lost. If the base is another now, that was maybe a mark.
	linked := h.previous == g.sequence
	markLost := !linked && (!known || h.base != g.mark.Index)
	if !linked {
		info.claims = append(info.claims, h.previous)
	}
	gap := !linked && info.confirmed < len(r.regions)
	if h.kind != frameFill { // which does not tell how the log stands
		info.confirmed = len(r.regions)
		for _, sequence := range info.claims {
			r.claim(sequence)
		}
		info.claims = info.claims[:0]
	}
	if h.kind == frameRemove {
		g.clear()
		r.info[g] = &groupReplay{removed: h.sequence}
		return nil
	}
	commit := info.commit
	g.state = h.state
	// A fill behind a lost frame leaves the gap in the numbers for the next frame to find.
	if h.kind != frameFill || linked {
		g.sequence = h.sequence
	}
	if h.kind == frameFill {
		r.fill(g, h, places, s)
		return nil
	}
	info.commit = h.state.Commit
	// A base below that of before is that of a group that was removed and made anew.
	if h.has(flagMark) || !known || h.base < g.mark.Index {
		g.index.reset(h.base)
		g.mark = Mark{Index: h.base, Term: h.baseTerm}
		g.conf = nil
	}
	if markLost {
		g.mark.ConfState, g.conf = nil, nil
		info.confLost, info.cause = true, r.lastRegion()
	}
	if err := r.applyHead(g, info, h, payload, lost); err != nil {
		return err
	}
	if h.base >= g.mark.Index {
		g.mark.Index, g.mark.Term = h.base, h.baseTerm
		g.index.compact(h.base)
	}
	r.align(g, info, h.first-1, h.priorTerm, commit, gap)
	if h.kind == frameCheckpoint {
		info.checkpoint = s.id
	}
	r.push(g, info, h, places, s)
	return nil
}

// applyHead takes over the membership and the fence.
func (r *replay) applyHead(g *Group, info *groupReplay, h *header, payload []byte,
	lost bool) error {
	if lost {
		if h.has(flagConf) && g.mark.ConfState == nil {
			info.confLost, info.cause = true, r.lastRegion()
		}
		if h.has(flagFence) {
			g.fenced, g.floor = true, max(g.floor, h.last())
		}
		return nil
	}
	floor, conf := h.headOf(payload)
	if h.has(flagConf) {
		decoded, err := decodeConf(conf)
		if err != nil {
			return fmt.Errorf("wal: membership of group %d in frame %d: %w", g.id, h.sequence, err)
		}
		g.mark.ConfState, g.conf = decoded, append([]byte(nil), conf...)
	} else if h.kind == frameCheckpoint {
		g.mark.ConfState, g.conf = nil, nil
	}
	if h.has(flagMark) || h.kind == frameCheckpoint {
		info.confLost = false
	}
	if h.kind == frameFence {
		info.confLost = false
	}
	if h.kind == frameFence || h.kind == frameCheckpoint {
		g.fenced, g.floor = h.has(flagFence), floor
	}
	return nil
}

// align makes the log of a group end at prior, as a header says it did. What the group should
// have had and has not becomes missing. If another term stands at prior, a lost frame replaced
// entries; which ones is not known, except that none up to the commit index was.
//
// The same holds if the entry at prior is missing itself and gap says that a frame before is lost.
func (r *replay) align(g *Group, info *groupReplay, prior, priorTerm, commit uint64, gap bool) {
	if prior < g.mark.Index {
		return
	}
	g.index.truncate(prior)
	longer := prior > g.index.last
	if longer {
		info.cause = r.lastRegion()
		r.doubt(g, commit, priorTerm)
	}
	for g.index.last < prior {
		g.index.push(location{})
	}
	if prior == g.mark.Index {
		return
	}
	p := g.index.at(prior)
	if !p.missing() && p.term != priorTerm || p.missing() && gap && !longer {
		info.cause = r.lastRegion()
		r.forgetFrom(g, max(commit, g.mark.Index)+1)
	}
	if p = g.index.at(prior); p.missing() {
		p.term = priorTerm
		g.index.set(prior, p)
	}
}

// doubt makes missing what frames that are lost may have replaced, given that they left a log at
// least as long whose last term was lastTerm: nothing if that is the term of what is there now,
// for then both logs have the same leader's prefix, else everything that was not committed.
func (r *replay) doubt(g *Group, commit, lastTerm uint64) {
	if g.termAt(g.index.last) != lastTerm {
		r.forgetFrom(g, max(commit, g.mark.Index)+1)
	}
}

// forgetFrom makes the entries of a group from index on missing.
func (r *replay) forgetFrom(g *Group, index uint64) {
	for i := index; i <= g.index.last; i++ {
		g.index.set(i, location{})
	}
}

// push adds the entries of a frame, or as many missing ones.
func (r *replay) push(g *Group, info *groupReplay, h *header, places []location, s *segment) {
	if places == nil && h.entries > 0 {
		info.cause = r.lastRegion()
		info.floor = max(info.floor, h.last())
	}
	if places != nil {
		g.index.pushAll(places, uint32(s.id))
		return
	}
	for range h.entries {
		g.index.push(location{})
	}
}

// fill gives entries that are missing.
func (r *replay) fill(g *Group, h *header, places []location, s *segment) {
	for i, p := range places {
		index := h.first + uint64(i)
		if g.index.has(index) && g.index.at(index).missing() {
			p.segment = uint32(s.id)
			g.index.set(index, p)
		}
	}
}

// endActivation is called behind the checkpoints of a segment of which none is lost, with the
// sequence of the next frame: a group without one was removed.
func (r *replay) endActivation(id, sequence uint64) {
	r.complete = sequence
	for _, g := range r.log.sortedGroups() {
		if info := r.info[g]; info != nil && g.sequence != 0 && info.checkpoint != id {
			g.clear()
			delete(r.info, g)
		}
	}
}
