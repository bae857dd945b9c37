package sim_test

import (
	"math/rand/v2"
	"time"
)

// config is what a seed draws for its cluster: small limits, so that their edges are met often.
type config struct {
	replicas, groups int
	spares           int     // hosts that no group begins with
	refuses          bool    // connections of members that were removed are refused
	rests            bool    // idle groups rest, and clients are idle at times
	rollout          rollout // of a release with other formats
	laggard          uint64  // host that gets it when the faults are over; nobody has some ids
	registers        bool    // a member that comes with an empty disk is refused: it is lost

	tick                          time.Duration
	electionTicks, heartbeatTicks int
	segmentBytes, cacheBytes      int64
	snapshotEntries               uint64
	snapshotBytes                 int64
	commandBytes, entryBytes      int
	inflightBytes                 uint64
	inflightCommands              int
	readyQuota, readiesAtOnce     int

	streams               bool // raft messages travel in order
	delayMin, delaySpread time.Duration
	slowPercent           int // frames that take long
	losses, duplicates    int // per thousand frames
	diskMin, diskMax      time.Duration
	applyMin, applyMax    time.Duration

	clients, keys, valueBytes   int
	readPercent                 int
	think                       time.Duration
	leases                      bool // some reads ask for a lease or an age, and clocks keep within a tenth
	deadlineMin, deadlineSpread time.Duration
}

func drawConfig(r *rand.Rand) config {
	c := config{
		replicas:         choose(r, 1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7),
		groups:           choose(r, 1, 1, 2, 3, 4),
		tick:             choose[time.Duration](r, 50, 100, 100, 200) * time.Millisecond,
		electionTicks:    choose(r, 5, 10, 10),
		heartbeatTicks:   choose(r, 1, 1, 2),
		segmentBytes:     int64(choose(r, 4, 8, 16, 64)) << 10,
		cacheBytes:       int64(choose(r, 0, 1, 8, 64)) << 10,
		snapshotEntries:  uint64(10 + r.IntN(choose(r, 10, 50, 190))),
		snapshotBytes:    int64(choose(r, 1, 4, 64)) << 10,
		commandBytes:     1 << 10,
		entryBytes:       choose(r, 32, 64, 256, 4096),
		inflightBytes:    uint64(choose(r, 128, 512, 4096, 1<<20)),
		inflightCommands: choose(r, 2, 8, 64, 1024),
		readyQuota:       choose(r, 1, 2, 8, 64),
		readiesAtOnce:    choose(r, 1, 2, 8, 512),

		streams:     r.IntN(2) == 0,
		delayMin:    choose[time.Duration](r, 50, 200, 1000) * time.Microsecond,
		delaySpread: choose[time.Duration](r, 1, 5, 20, 50) * time.Millisecond,
		slowPercent: choose(r, 0, 0, 1, 5),
		losses:      choose(r, 0, 0, 1, 20, 100),
		duplicates:  choose(r, 0, 0, 10, 100),
		diskMin:     choose[time.Duration](r, 50, 200, 1000) * time.Microsecond,
		diskMax:     choose[time.Duration](r, 2, 5, 20) * time.Millisecond,
		applyMin:    time.Microsecond,
		applyMax:    choose[time.Duration](r, 50, 1000, 20_000) * time.Microsecond,

		clients:        choose(r, 1, 2, 4, 8),
		keys:           choose(r, 1, 2, 5),
		valueBytes:     choose(r, 0, 8, 40, 250, 250),
		readPercent:    choose(r, 0, 20, 50),
		think:          choose[time.Duration](r, 1, 20, 100, 200) * time.Millisecond,
		deadlineMin:    choose[time.Duration](r, 50, 500, 2000) * time.Millisecond,
		deadlineSpread: choose[time.Duration](r, 100, 1000, 4000) * time.Millisecond,
	}
	c.leases = r.IntN(2) == 0
	switch load := r.IntN(4); {
	case c.leases && load < 2:
		// A lease is wrong for a moment at most, so that many must ask.
		c.clients, c.readPercent, c.think = 8, 50, time.Millisecond
	case c.leases && load == 2:
		// Who is cut off is elected only while it lacks nothing, so that few must write.
		c.clients, c.readPercent, c.think = 4, 80, 200*time.Millisecond
	}
	c.spares = choose(r, 0, 1, 2, 4)
	c.rests = r.IntN(2) == 0
	c.refuses = r.IntN(2) == 0 && c.groups == 1 // a node does not know of groups that it has no part in
	c.registers = r.IntN(2) == 0
	c.rollout = choose(r, readFirst, writeAtOnce, writeAtOnce)
	c.laggard = uint64(r.IntN(2 * c.replicas))
	return c
}

func choose[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// lease is node's Options.lease, 0 in runs whose clocks run at any rate.
func (c *config) lease() time.Duration {
	if !c.leases {
		return 0
	}
	d := time.Duration(c.electionTicks-2) * c.tick
	return d - d/10
}

// electionTime is the shortest time without a leader after which a follower campaigns.
func (c *config) electionTime() time.Duration { return time.Duration(c.electionTicks) * c.tick }
