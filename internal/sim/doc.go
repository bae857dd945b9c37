// Package sim runs whole clusters on a virtual clock, in one goroutine, from one seed.
//
// It is made of tests alone. A cluster is the real internal/replica cores and internal/apply stages
// over the real wal on vfs.Mem, joined by the real encoding of transport, under faults that the seed
// draws; the files named after parts of node carry the effects of the cores as node does, and say so.
// Snapshots are kept in memory, and handshakes are not played. An operator changes the members of
// groups and moves leaderships meanwhile. Files named invariant_* hold what must be true after every
// event. The same seed gives the same run:
//
//	go test ./internal/sim                                  a small set of seeds
//	go test ./internal/sim -run TestSeeds -sim.seeds=5000   so many, from -sim.seed on
//	go test ./internal/sim -run TestSeeds -sim.seed=17 -sim.seeds=1
//
// -sim.seconds is the virtual length of the phase with faults, -sim.faults the kinds of faults to
// run with three nodes ("wipe,kill,change"), -sim.traces where the traces of failures go. -sim.brief
// names violations only, -sim.mutant draws the runs that are to catch a source mutant.
package sim
