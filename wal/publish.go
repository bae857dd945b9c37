package wal

// publishSequences tells the groups the sequences of their last frames, those of checkpoints too.
func (l *Log) publishSequences() {
	for i := range l.staged {
		if g := l.staged[i].group; l.staged[i].header.kind != frameRemove {
			l.publishSequence(g)
			l.super.unlisted = l.super.unlisted || !l.super.listed[g.id]
		}
	}
}

func (l *Log) publishSequence(g *Group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sequence = g.tip.sequence
}

// publish makes a written frame visible.
func (l *Log) publish(f *stagedFrame) {
	g, h := f.group, &f.header
	l.dropLive(g, h)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state = h.state
	switch h.kind {
	case frameAppend:
		if f.mark != nil {
			l.publishMark(g, f)
		}
		if len(f.source.entries) > 0 {
			l.cache.truncate(g, h.first)
			g.index.truncate(h.first - 1)
			l.publishEntries(g, f)
			l.cache.add(g, f.source.entries)
		}
		g.visible = g.index.last
		if g.damage != nil {
			g.describe(nil)
		}
	case frameCompact:
		g.mark.Index, g.mark.Term = h.base, h.baseTerm
		l.cache.compact(g, h.base)
		g.index.compact(h.base)
		if g.damage != nil {
			g.describe(nil)
		}
	case frameFill:
		l.publishFill(g, f)
	case frameFence:
		l.publishFence(g, f)
	case frameRemove:
		l.cache.truncate(g, 0)
		g.clear()
	}
}

func (l *Log) publishMark(g *Group, f *stagedFrame) {
	l.cache.truncate(g, 0)
	g.mark, g.conf = *f.mark, f.source.conf
	g.index.reset(f.mark.Index)
}

// publishEntries adds the entries of a frame behind the last one of the index.
func (l *Log) publishEntries(g *Group, f *stagedFrame) {
	at := f.offset + frameHeaderBytes + alignUp(int64(f.header.headBytes), frameAlign)
	live := int64(0)
	for _, e := range f.source.entries {
		p := location{term: e.GetTerm(), offset: uint32(at), word: entryWord(e),
			segment: uint32(l.active.id)}
		g.index.push(p)
		at += p.size()
		live += p.size()
	}
	g.bytes.Add(live)
	l.active.live.Add(live)
}

// dropLive takes out of the accounts what the frame makes the group drop.
func (l *Log) dropLive(g *Group, h *header) {
	from, to := h.first, g.index.last
	switch {
	case h.kind == frameFill || h.kind == frameFence:
		return
	case h.kind == frameCompact:
		from, to = g.mark.Index+1, min(h.base, g.index.last)
	case h.kind == frameRemove || h.has(flagMark):
		from = g.mark.Index + 1
	case h.entries == 0:
		return
	}
	l.dropRange(g, from, to)
}

// dropRange takes the entries [from, to] out of the accounts.
func (l *Log) dropRange(g *Group, from, to uint64) {
	var s *segment
	for i := from; i <= to; i++ {
		p := g.index.at(i)
		if p.missing() {
			continue
		}
		if s == nil || s.id != uint64(p.segment) {
			s = findSegment(l.segs.list, uint64(p.segment))
		}
		s.live.Add(-p.size())
		g.bytes.Add(-p.size())
	}
}

// publishFill points the index to the entries of a frame that fills a hole or moves entries.
func (l *Log) publishFill(g *Group, f *stagedFrame) {
	at := f.offset + frameHeaderBytes + alignUp(int64(f.header.headBytes), frameAlign)
	live := int64(0)
	for _, e := range f.source.entries {
		p := location{term: e.GetTerm(), offset: uint32(at), word: entryWord(e),
			segment: uint32(l.active.id)}
		l.dropRange(g, e.GetIndex(), e.GetIndex())
		g.index.set(e.GetIndex(), p)
		at += p.size()
		live += p.size()
	}
	g.bytes.Add(live)
	l.active.live.Add(live)
	if g.damage != nil {
		g.describe(nil)
	}
}

// publishFence raises or lifts a fence.
func (l *Log) publishFence(g *Group, f *stagedFrame) {
	if f.header.has(flagFence) {
		g.fenced, g.floor = true, f.source.floor
		g.describe(&DamageError{Expected: "the log of a group that has begun",
			Found: "a log that was lost as a whole"})
		l.o.Logger.Warn("fence raised", "group", g.id)
		return
	}
	g.fenced, g.floor = false, 0
	g.describe(nil)
	l.o.Logger.Info("fence lifted", "group", g.id, "last", g.visible)
}
