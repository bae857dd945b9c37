package sim_test

import "time"

// shape is what the runs that are to catch a mutant have in the place of what their seeds draw: the
// faults without which it does no harm, and a cluster in which it soon does some. Everything else is
// drawn, and the invariants are the same. One seed in twenty or more should catch it, so that it is still
// caught when something shifts the draws.
type shape struct {
	faults []faultKind   // each as often as the others; nil = drawn
	set    []func(*plan) // in order, before the faults are drawn
}

func under(faults ...faultKind) shape { return shape{faults: faults} }

func (s shape) with(set ...func(*plan)) shape {
	s.set = set
	return s
}

func (s shape) draw(seed uint64) plan {
	return drawPlanWith(seed, 20*time.Second, s.set, s.faults)
}

// pace says how fast faults come and how long they last, both on average and in milliseconds.
func pace(gap, lasts time.Duration) func(*plan) {
	return func(p *plan) { p.gap, p.lasts = gap*time.Millisecond, lasts*time.Millisecond }
}

func cluster(replicas, spares, groups int) func(*plan) {
	return func(p *plan) {
		c := &p.config
		c.replicas, c.spares, c.groups = replicas, spares, groups
		c.refuses = c.refuses && groups == 1 // as drawn
	}
}

// load says how many clients there are, which part of their operations are reads, and for how many
// milliseconds they pause on average. Nobody asks for a lease.
func load(clients, readPercent int, think time.Duration) func(*plan) {
	return func(p *plan) {
		c := &p.config
		c.leases, c.clients, c.readPercent, c.think = false, clients, readPercent, think*time.Millisecond
	}
}

// leased is load with leases.
func leased(clients int, think time.Duration) func(*plan) {
	return func(p *plan) {
		load(clients, 50, think)(p)
		p.config.leases = true
	}
}

// bursts has the faults come in the order in which they are named, each about so many milliseconds
// behind the one before; the gap of the pace is behind the last one.
func bursts(soon time.Duration) func(*plan) {
	return func(p *plan) { p.soon = soon * time.Millisecond }
}

// elections says how long a tick is, in milliseconds, and how many make an election timeout.
func elections(tick time.Duration, ticks int) func(*plan) {
	return func(p *plan) { p.config.tick, p.config.electionTicks = tick*time.Millisecond, ticks }
}

func shortElections(p *plan) { elections(50, 5)(p) }

// smallSnapshots has logs be cut off soon.
func smallSnapshots(p *plan) { p.config.snapshotEntries = 10 }

// slowDisks has a sync take so many milliseconds, and take all along that waits.
func slowDisks(least, most time.Duration) func(*plan) {
	return func(p *plan) {
		c := &p.config
		c.diskMin, c.diskMax = least*time.Millisecond, most*time.Millisecond
		c.readyQuota, c.readiesAtOnce = 64, 512
	}
}

func fastDisks(p *plan) {
	p.config.diskMax, p.config.applyMax = 2*time.Millisecond, time.Millisecond
}

// lateFrames has some frames take so long that others overtake them.
func lateFrames(p *plan) {
	c := &p.config
	c.streams, c.slowPercent, c.delaySpread = false, 15, 20*time.Millisecond
}

// patient has clients wait for long for many small entries on their way.
func patient(p *plan) {
	c := &p.config
	c.entryBytes, c.inflightBytes, c.inflightCommands, c.losses = 32, 4096, 64, 0
	c.deadlineMin, c.deadlineSpread = 3*time.Second, time.Second
}

// slowHeartbeats leaves as much time between two of them as an election timeout bears.
func slowHeartbeats(p *plan) { p.config.electionTicks, p.config.heartbeatTicks = 5, 2 }

func smallSegments(p *plan) { p.config.segmentBytes = 4 << 10 }

// atOnce has the next release write what the present one cannot read.
func atOnce(p *plan) { p.config.rollout = writeAtOnce }
