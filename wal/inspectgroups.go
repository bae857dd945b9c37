package wal

// fillReport describes what was read.
func (n *inspection) fillReport() {
	r := &n.report
	r.ClusterID, r.NodeID = n.identity.ClusterID, n.identity.NodeID
	r.Incarnation, r.NextSequence = n.identity.Incarnation, max(n.sequence, 1)
	r.ReadBytes = n.total
	for _, f := range n.chain {
		n.log.segs.list = append(n.log.segs.list, f.segment)
	}
	n.log.account()
	r.Segments, r.Groups = []SegmentReport{}, []GroupReport{}
	r.Damage, r.BadPlaces = []*DamageError{}, []BadPlace{}
	n.reportSegments()
	n.reportFloor()
	n.reportGroups()
	n.reportBadPlaces()
}

func (n *inspection) reportSegments() {
	use := make(map[uint64]string)
	for i, f := range n.chain {
		use[f.id] = "sealed"
		if i == len(n.chain)-1 {
			use[f.id] = "active"
		}
	}
	for _, f := range n.files {
		s := n.segments[f.id]
		if s == nil {
			s = &SegmentReport{}
		}
		s.File, s.Bytes, s.LiveBytes = segmentName(f.id), f.scan.size, f.live.Load()
		s.Use = use[f.id]
		if s.Use == "" {
			s.Use = "prepared"
			if f.valid {
				s.Use = "unused"
			}
		}
		n.report.Segments = append(n.report.Segments, *s)
		n.report.DiskBytes += s.Bytes
		n.report.LiveBytes += s.LiveBytes
	}
}

func (n *inspection) reportFloor() {
	if s := n.super; s != nil {
		n.report.Floor = &FloorReport{Counter: s.counter, File: segmentName(s.segment),
			Offset: s.durable, NextSequence: s.sequence, Clean: s.clean}
	}
}

func (n *inspection) reportGroups() {
	floors := make(map[uint64]uint64)
	if n.super != nil {
		for _, sg := range n.super.groups {
			floors[sg.id] = sg.last
		}
	}
	for _, g := range n.log.sortedGroups() {
		if g.sequence == 0 {
			continue
		}
		n.report.Groups = append(n.report.Groups, GroupReport{Group: g.id,
			FirstIndex: g.mark.Index + 1, LastIndex: g.visible, Term: g.state.Term,
			Vote: g.state.Vote, Commit: g.state.Commit, Bytes: g.bytes.Load(),
			Floor: floors[g.id], Fenced: g.fenced})
		n.report.Damage = append(n.report.Damage, n.damageOf(g)...)
	}
}

// damageOf returns one damage for each hole of a group, and one for its end if that is lost.
func (n *inspection) damageOf(g *Group) []*DamageError {
	if g.damage == nil {
		return nil
	}
	var list []*DamageError
	for hole := g.index.nextMissing(g.mark.Index + 1); hole != 0; {
		d := *g.damage
		d.Resume = g.index.nextPresent(hole)
		d.FirstIndex, d.LastIndex = hole, d.Resume-1
		n.locate(&d)
		list = append(list, &d)
		hole = g.index.nextMissing(d.Resume)
	}
	if g.floor > g.index.last {
		d := *g.damage
		d.FirstIndex, d.LastIndex, d.Resume = g.index.last+1, g.floor, 0
		n.locate(&d)
		list = append(list, &d)
	}
	if len(list) == 0 {
		list = append(list, g.damage)
	}
	return list
}

// locate names the last frame that had the first entry of a hole, if its header is there.
func (n *inspection) locate(d *DamageError) {
	for _, region := range n.replay.regions {
		h, known := n.hit[region]
		if !known {
			continue
		}
		if h.group == d.Group && h.entries > 0 && h.first <= d.FirstIndex && d.FirstIndex <= h.last() {
			d.File, d.Offset = region.file, region.offset
			d.Expected, d.Found = region.expected, region.found
		}
	}
}

func (n *inspection) reportBadPlaces() {
	damaged := make(map[uint64]bool)
	for _, d := range n.report.Damage {
		damaged[d.Group] = true
	}
	for _, region := range n.replay.regions {
		b := BadPlace{File: region.file, Offset: region.offset, Expected: region.expected,
			Found: region.found, Harmless: len(damaged) == 0}
		if h, known := n.hit[region]; known {
			b.Group, b.Harmless = h.group, !damaged[h.group]
			if h.entries > 0 {
				b.FirstIndex, b.LastIndex = h.first, h.last()
			}
		}
		n.report.BadPlaces = append(n.report.BadPlaces, b)
	}
}
