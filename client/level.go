package client

import (
	"time"

	"github.com/connectraft/connect/internal/wire"
)

// ReadLevel says how fresh the answer to a read must be.
type ReadLevel struct {
	level wire.Level
	bound uint64
}

var (
	// Linearizable: it reflects every write acknowledged anywhere before the read began.
	Linearizable = ReadLevel{}
	// Lease: the same while the clocks of the cluster's nodes run at about the same speed, and
	// faster: the leader asks nobody while it has a lease.
	Lease = ReadLevel{level: wire.Lease}
)

// AtLeast: it reflects the log up to index, as the Result of a write names it: who reads so reads
// its own writes, on any node, which waits until it has come so far.
func AtLeast(index uint64) ReadLevel { return ReadLevel{wire.AtLeast, index} }

// Stale: it reflects every write acknowledged anywhere more than maxAge before the read began, on
// any node; 0 or less is any age, and the node asks nobody.
func Stale(maxAge time.Duration) ReadLevel {
	if maxAge <= 0 {
		return ReadLevel{level: wire.Stale}
	}
	return ReadLevel{wire.Stale, max(1, uint64(maxAge/time.Microsecond))}
}
