package node

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/connectraft/connect/wal"
)

// diskWatch tells a disk that hangs from one that is slow. A hung sync never returns an error, so
// heartbeats would go on while no write can end (hashicorp/raft issue 503).
type diskWatch struct {
	node   *Node
	log    *wal.Log
	logger *slog.Logger
	limit  time.Duration
	hangs  atomic.Bool // what look has found
	// full says that the log has no room for its next segment. It is looked up at every tick,
	// not for every command: the rest of the present segment bridges the time.
	full    atomic.Bool
	refused bool // the worker's: commands were refused for want of room at the last look
}

// look is called by the first worker at every tick.
func (d *diskWatch) look() {
	d.full.Store(d.log.Full())
	if refused := d.full.Load() || d.node.diskFull.Load(); refused != d.refused {
		d.refused = refused
		kind := DiskRoom
		if refused {
			kind = DiskFull
		}
		d.node.emit(Event{Kind: kind})
	}
	d.lookForSync()
}

// since returns how long the sync under way has taken, 0 when that is within the limit.
func (d *diskWatch) since() time.Duration {
	begun := d.log.SyncStarted()
	if begun.IsZero() {
		return 0
	}
	if took := time.Since(begun); took > d.limit {
		return took
	}
	return 0
}

// lookForSync notes whether the disk hangs, and logs when that changes.
func (d *diskWatch) lookForSync() {
	took := d.since()
	hangs := took != 0
	was := d.hangs.Swap(hangs)
	if hangs && !was {
		d.logger.Error("the disk hangs: a sync of the log does not return", "for", took,
			"limit", d.limit)
		d.node.emit(Event{Kind: DiskHung, Took: took})
		d.node.stirWhere((*Group).leads, whisper{from: d.node.options.ID})
	}
	if !hangs && was {
		d.logger.Info("the disk answers again")
		d.node.emit(Event{Kind: DiskReturned})
	}
}
