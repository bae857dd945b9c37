package wal

import (
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/connectraft/connect/internal/vfs"
)

// Identity says whose log it is. It stands in every file of the log.
type Identity struct {
	// ClusterID has 1 to 63 bytes.
	ClusterID string
	// NodeID is the raft id of the node.
	NodeID uint64
	// Incarnation is drawn at random when the log is created and never changes; a node whose disk
	// was wiped comes back with another one.
	Incarnation uint64
}

// Options configures Open. FS, Dir and Identity are required.
type Options struct {
	FS  vfs.FS
	Dir string
	// Identity of the log. A new log takes Incarnation from here, or draws it from Rand if it is
	// 0. An existing one must have the same ClusterID and NodeID, else Open returns an
	// *IdentityError; Incarnation is then ignored.
	Identity Identity
	// Rand is read when a log is created. Nil means crypto/rand.Reader.
	Rand io.Reader
	// SegmentBytes is the size of a segment file, 4 KiB to 1 GiB. 0 means 64 MiB. A single append
	// that is larger gets a segment that holds it.
	SegmentBytes int64
	// CacheBytes bounds the recent entries of all groups that are kept in memory, counted by
	// payload and a fixed cost for each entry. 0 means 64 MiB.
	CacheBytes int64
	// ReserveBytes is the size of the ballast file that is given up when the disk is full, so that
	// votes and compactions still find room. 0 means SegmentBytes, -1 none.
	ReserveBytes int64
	// Repair decides what Open does about damage: false refuses with a *DamageError, true opens
	// the log with the groups that are hit fenced (see Group.Damage).
	Repair bool
	// Inline makes the log start no goroutine: segments are prepared, the superblock is written
	// and files are removed within Append, Compact and Close. Deterministic simulation needs it.
	Inline bool
	// Now is the clock for Log.SyncStarted and the pace of superblocks. Nil means time.Now.
	Now func() time.Time
	// Progress, if not nil, is called during Open after about every 64 MiB read, with the bytes
	// read and the bytes to read.
	Progress func(done, total int64)
	// Logger gets one record for each change of state. Nil discards.
	Logger *slog.Logger
}

const (
	segmentBytesDefault = 64 << 20
	segmentBytesMin     = 4 << 10
	segmentBytesMax     = 1 << 30
	cacheBytesDefault   = 64 << 20
	clusterIDBytesMax   = 63
)

// withDefaults returns the options with every unset field filled in.
func (o Options) withDefaults() Options {
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = segmentBytesDefault
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = cacheBytesDefault
	}
	if o.ReserveBytes == 0 {
		o.ReserveBytes = o.SegmentBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// validate names the first field that is out of its range.
func (o Options) validate() error {
	switch n := len(o.Identity.ClusterID); {
	case o.FS == nil:
		return fmt.Errorf("%w: Options.FS is nil", ErrInvalid)
	case o.Dir == "":
		return fmt.Errorf("%w: Options.Dir is empty", ErrInvalid)
	case n < 1 || n > clusterIDBytesMax:
		return fmt.Errorf("%w: ClusterID has %d bytes, allowed are 1 to %d", ErrInvalid, n,
			clusterIDBytesMax)
	case o.Identity.NodeID == 0:
		return fmt.Errorf("%w: NodeID is 0", ErrInvalid)
	case o.SegmentBytes < segmentBytesMin || o.SegmentBytes > segmentBytesMax:
		return fmt.Errorf("%w: SegmentBytes is %d, allowed are %d to %d", ErrInvalid,
			o.SegmentBytes, segmentBytesMin, segmentBytesMax)
	case o.CacheBytes < 0:
		return fmt.Errorf("%w: CacheBytes is %d, allowed are 0 or more", ErrInvalid, o.CacheBytes)
	}
	return nil
}
