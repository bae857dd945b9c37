package wal

// decide finds out which groups have lost something, and fences them or refuses the log.
func (r *recovery) decide() error {
	r.dropRemoved()
	r.applyFloors()
	var first *DamageError
	for _, g := range r.log.sortedGroups() {
		info := r.replay.info[g]
		if info == nil || g.sequence == 0 {
			continue
		}
		damaged := r.settle(g, info)
		if !damaged {
			continue
		}
		g.fenced = true
		g.describe(r.causeOf(info))
		if first == nil {
			first = g.damage
		}
		r.log.o.Logger.Warn("group is damaged", "group", g.id, "error", g.damage)
	}
	if first != nil && !r.log.o.Repair {
		return first
	}
	return nil
}

// dropRemoved does for a damaged head of a segment what endActivation does for a whole one: if
// every frame that is lost there has turned out to be of a group that goes on, a group that was not
// in the head had been removed before.
func (r *recovery) dropRemoved() {
	for i, region := range r.replay.regions {
		if region.activation == 0 || !region.resolved() {
			continue
		}
		for _, g := range r.log.sortedGroups() {
			info := r.replay.info[g]
			if info == nil || info.confirmed > i || info.checkpoint == region.activation {
				continue
			}
			g.clear()
			delete(r.replay.info, g)
		}
	}
}

// applyFloors compares the groups with the superblock, if frames that it knows of are lost at the
// end of the log.
func (r *recovery) applyFloors() {
	if !r.lostEnd() {
		r.applyFloorsInside()
		return
	}
	listed := make(map[uint64]bool)
	for _, sg := range r.super.groups {
		listed[sg.id] = true
		g, info := r.replay.group(sg.id)
		if g.sequence < sg.sequence {
			r.applyFloor(g, info, &sg)
		} else if !r.super.clean {
			// What the group wrote behind the superblock stood behind what is lost.
			if sg.last < g.mark.Index {
				g.clearLog() // of a former life: the group was removed and made anew
			}
			info.cause, info.lostTail = r.replay.lastRegion(), true
		}
	}
	for _, g := range r.log.sortedGroups() {
		if g.sequence != 0 && !listed[g.id] && g.sequence < r.super.sequence {
			g.clear() // removed by a frame that is lost
			delete(r.replay.info, g)
		}
	}
}

// applyFloorsInside compares the groups with the superblock if there is damage in front of the end
// of the log: a group whose last frames are in it has nothing behind that could tell of them.
func (r *recovery) applyFloorsInside() {
	if r.super == nil || len(r.replay.regions) == 0 {
		return
	}
	for _, sg := range r.super.groups {
		g, info := r.replay.group(sg.id)
		since := max(info.removed+1, r.replay.complete) // from here on a frame may have made the group
		if g.sequence < sg.sequence && (g.sequence != 0 || since <= sg.sequence) {
			r.applyFloor(g, info, &sg)
		}
	}
}

// applyFloor takes over what the superblock says of a group whose last frames are lost. If they
// had changed nothing but the state, nothing is lost at all.
func (r *recovery) applyFloor(g *Group, info *groupReplay, sg *superblockGroup) {
	known, commit := g.sequence != 0, info.commit
	g.sequence, g.state = sg.sequence, g.state.merge(sg.state)
	if sg.fence > 0 {
		g.fenced, g.floor = true, max(g.floor, sg.fence-1)
	}
	// What followed a superblock that is not of a clean close may have been acknowledged too.
	whole := known && sg.last == g.index.last && g.termAt(sg.last) == sg.lastTerm && r.super.clean
	if whole {
		return
	}
	if sg.last < g.mark.Index {
		g.clearLog() // of a former life: the group was removed and made anew
	}
	info.cause, info.lostTail = r.replay.lastRegion(), true
	info.floor = max(info.floor, sg.last)
	if g.index.has(sg.last) && g.index.at(sg.last).term == sg.lastTerm {
		g.index.truncate(sg.last) // a lost frame had cut the rest
		return
	}
	r.replay.doubt(g, commit, sg.lastTerm)
}

// settle brings a group into the form that it has for its readers, and reports damage.
func (r *recovery) settle(g *Group, info *groupReplay) bool {
	last := g.index.last
	for g.index.last > g.index.mark && g.index.at(g.index.last).missing() {
		g.index.truncate(g.index.last - 1)
	}
	suspect := false
	for _, region := range r.replay.regions[info.confirmed:] {
		if !region.resolved() {
			suspect = true
			info.cause = region
		}
	}
	damaged := g.fenced || info.confLost || info.lostTail || suspect || last != g.index.last ||
		g.index.nextMissing(g.index.mark+1) != 0
	if damaged {
		g.floor = max(g.floor, info.floor, last)
	}
	g.describe(nil)
	return damaged
}

// causeOf describes the region that cost a group something.
func (r *recovery) causeOf(info *groupReplay) *DamageError {
	region := info.cause
	switch {
	case region != nil:
	case len(r.chain) > 0 && r.chain[0].valid && r.chain[0].previous != 0:
		region = &lostRegion{file: segmentName(r.chain[0].previous), expected: "a segment in use",
			found: "no file"}
	default:
		return &DamageError{Expected: "a group that is whole", Found: "a fence from an earlier run"}
	}
	return &DamageError{File: region.file, Offset: region.offset, Expected: region.expected,
		Found: region.found}
}

// account counts what is alive, in the groups and in the segments.
func (l *Log) account() {
	for _, g := range l.sortedGroups() {
		for i, bytes := range g.index.bytesByOrigin() {
			if o := g.index.origins[i]; o.segment != 0 && bytes > 0 {
				g.bytes.Add(bytes)
				findSegment(l.segs.list, uint64(o.segment)).live.Add(bytes)
			}
		}
	}
}
