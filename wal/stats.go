package wal

import "time"

// Stats is a picture of the log at one moment.
type Stats struct {
	// Segments counts the files that hold frames, and DiskBytes is their size with that of the
	// prepared segment.
	Segments  int
	DiskBytes int64
	// LiveBytes are the encoded bytes of entries that groups still have.
	LiveBytes int64
	// Syncs counts the syncs of segments on the way of an append since Open; SyncTime is the time
	// spent in them, and Rotations counts changes of the segment.
	Syncs     uint64
	SyncTime  time.Duration
	Rotations uint64
	// Full says that the disk has no room for the next segment: see ErrDiskFull.
	Full bool
	// PinnedBy is the largest of the groups that keep the oldest segment, the one to ask for a
	// snapshot when the log is over its budget; 0 if no group pins it.
	PinnedBy uint64
	Groups   []GroupStats
}

// GroupStats is one group's share of Stats.
type GroupStats struct {
	Group                 uint64
	FirstIndex, LastIndex uint64
	// Bytes are the encoded bytes of its entries.
	Bytes int64
	// Fenced says that Group.Damage is not nil.
	Fenced bool
}

// Stats returns a picture of the log. Its cost grows with the number of groups, not with the log.
func (l *Log) Stats() Stats {
	st := Stats{Syncs: l.syncs.Load(), SyncTime: time.Duration(l.syncNanos.Load()),
		Rotations: l.rotations.Load(), Full: l.Full()}
	l.segs.RLock()
	st.Segments = len(l.segs.list)
	oldest := uint64(0)
	for i, s := range l.segs.list {
		st.DiskBytes += s.size
		st.LiveBytes += s.live.Load()
		if i == 0 && st.Segments > 1 {
			oldest = s.id
		}
	}
	l.segs.RUnlock()
	st.DiskBytes += l.worker.preparedBytes()
	most := int64(0)
	for _, g := range l.sortedGroups() {
		gs, first, ok := g.stats()
		if !ok {
			continue
		}
		st.Groups = append(st.Groups, gs)
		if oldest != 0 && uint64(first) == oldest && gs.Bytes > most {
			st.PinnedBy, most = gs.Group, gs.Bytes
		}
	}
	return st
}

// stats returns the group's share of Stats and the segment of its first entry; false for a group
// without state.
func (g *Group) stats() (GroupStats, uint32, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	first := uint32(0)
	if g.index.last > g.index.mark {
		first = g.index.at(g.index.mark + 1).segment
	}
	return GroupStats{Group: g.id, FirstIndex: g.mark.Index + 1, LastIndex: g.visible,
		Bytes: g.bytes.Load(), Fenced: g.fenced}, first, g.sequence != 0
}
