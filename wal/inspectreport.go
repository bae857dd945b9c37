package wal

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// Conditions of a [Frame].
const (
	// FrameWhole: every checksum fits.
	FrameWhole = "whole"
	// FrameDamaged: it was durable once and does not verify.
	FrameDamaged = "damaged"
	// FrameTorn: behind the end of the log, where nothing confirms it: a write under way, or one
	// that a crash has torn. It is no damage.
	FrameTorn = "torn"
)

// Frame is what [Inspect] shows of one frame, or of a place where one should be.
type Frame struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	// Length is 0 where no header can be read, and so are the fields that come from it.
	Length   int64  `json:"length"`
	Sequence uint64 `json:"sequence"`
	// Kind is append, mark (an append that begins the log anew), compact, remove, checkpoint,
	// fill, fence or unfence; empty where no header can be read.
	Kind  string `json:"kind"`
	Group uint64 `json:"group"`
	// FirstIndex to LastIndex are the entries in the frame; both are 0 if there are none.
	FirstIndex uint64 `json:"first_index"`
	LastIndex  uint64 `json:"last_index"`
	// Term, Vote and Commit are the hard state behind the frame, Base and BaseTerm tell the entry
	// in front of the group's first one.
	Term     uint64 `json:"term"`
	Vote     uint64 `json:"vote"`
	Commit   uint64 `json:"commit"`
	Base     uint64 `json:"base"`
	BaseTerm uint64 `json:"base_term"`
	// Condition is FrameWhole, FrameDamaged or FrameTorn, and Problem says more about the latter two.
	Condition string `json:"condition"`
	Problem   string `json:"problem,omitempty"`
	// Entries are only there if the frame is whole.
	Entries []FrameEntry `json:"-"`
}

// FrameEntry is one entry of a frame. Data is valid until Visit returns.
type FrameEntry struct {
	Index, Term uint64
	Type        raftpb.EntryType
	Data        []byte
}

// Report is what [Inspect] found.
type Report struct {
	ClusterID   string `json:"cluster"`
	NodeID      uint64 `json:"node"`
	Incarnation uint64 `json:"incarnation"`
	// Frames and Entries count what was read and is whole; ReadBytes is how much was read for it.
	Frames    uint64 `json:"frames"`
	Entries   uint64 `json:"entries"`
	ReadBytes int64  `json:"read_bytes"`
	// DiskBytes are in segments, of which LiveBytes are entries that a group still has.
	DiskBytes int64 `json:"disk_bytes"`
	LiveBytes int64 `json:"live_bytes"`
	// NextSequence is that of the frame to come.
	NextSequence uint64          `json:"next_sequence"`
	Segments     []SegmentReport `json:"segments"`
	Groups       []GroupReport   `json:"groups"`
	// Floor is the newest superblock, nil if none is valid.
	Floor *FloorReport `json:"floor"`
	// Damage has one element for each run of entries that a group lost. It is empty if and only
	// if Open would take the log without Options.Repair.
	Damage []*DamageError `json:"damage"`
	// BadPlaces are all places that were durable and do not verify, also those without a part in
	// Damage.
	BadPlaces []BadPlace `json:"bad_places"`
	// Torn is the first frame behind the end that is not zero, nil if there is none.
	Torn *Frame `json:"torn"`
}

// SegmentReport is one segment file.
type SegmentReport struct {
	File string `json:"file"`
	// Use is sealed, active, prepared (not in use yet) or unused (the next Open removes it).
	Use       string `json:"use"`
	Bytes     int64  `json:"bytes"`
	LiveBytes int64  `json:"live_bytes"`
	// Frames counts those that are whole, and End is where the last frame ends.
	Frames uint64 `json:"frames"`
	End    int64  `json:"end"`
}

// GroupReport is one raft group. A group with a hole ends in front of it.
type GroupReport struct {
	Group      uint64 `json:"group"`
	FirstIndex uint64 `json:"first_index"`
	LastIndex  uint64 `json:"last_index"`
	Term       uint64 `json:"term"`
	Vote       uint64 `json:"vote"`
	Commit     uint64 `json:"commit"`
	Bytes      int64  `json:"bytes"`
	// Floor is the last index that the superblock knows to have been durable, 0 if it does not
	// list the group.
	Floor  uint64 `json:"floor"`
	Fenced bool   `json:"fenced"`
}

// FloorReport is the newest superblock: everything in front of Offset in Segment, and every frame
// below NextSequence, was durable.
type FloorReport struct {
	Counter      uint64 `json:"counter"`
	File         string `json:"file"`
	Offset       int64  `json:"offset"`
	NextSequence uint64 `json:"next_sequence"`
	// Clean says that the log was closed and nothing was written since.
	Clean bool `json:"clean"`
}

// BadPlace is a part of a file that was durable and does not verify.
type BadPlace struct {
	File     string `json:"file"`
	Offset   int64  `json:"offset"`
	Expected string `json:"expected"`
	Found    string `json:"found"`
	// Group and the index range are known if the header of the frame is whole; otherwise they
	// are 0, and every group may have lost something here.
	Group      uint64 `json:"group"`
	FirstIndex uint64 `json:"first_index"`
	LastIndex  uint64 `json:"last_index"`
	// Harmless says that no group lost anything here: a later frame makes it good, or nobody needs
	// it any more.
	Harmless bool `json:"harmless"`
}

// clean says that not even a harmless bad place was found.
func (r *Report) clean() bool { return len(r.Damage)+len(r.BadPlaces) == 0 }

// Whole says that no group has lost anything.
func (r *Report) Whole() bool { return len(r.Damage) == 0 }

// sameAs says whether two passes found the same.
func (r *Report) sameAs(other *Report) bool {
	return slices.EqualFunc(r.Damage, other.Damage, sameDamage) &&
		slices.Equal(r.BadPlaces, other.BadPlaces)
}

// keepConfirmed drops what another pass has not found.
func (r *Report) keepConfirmed(other *Report) {
	r.Damage = slices.DeleteFunc(r.Damage, func(d *DamageError) bool {
		return !slices.ContainsFunc(other.Damage, func(o *DamageError) bool { return sameDamage(d, o) })
	})
	r.BadPlaces = slices.DeleteFunc(r.BadPlaces, func(b BadPlace) bool {
		return !slices.Contains(other.BadPlaces, b)
	})
}

// sameDamage compares without the floor and what is behind the hole, which move in a live log.
func sameDamage(a, b *DamageError) bool {
	return a.File == b.File && a.Offset == b.Offset && a.Group == b.Group &&
		a.FirstIndex == b.FirstIndex && a.Expected == b.Expected
}
