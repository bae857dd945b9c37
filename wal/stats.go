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
	// PinnedBy is the group with the most bytes in the oldest segment, the one to ask for a
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
