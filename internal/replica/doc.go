// Package replica is the pure core of one raft replica: events in, effects out.
//
// A [Replica] owns a raft.RawNode and everything that must change together with it: commands
// waiting to be packed, the log positions of commands in flight, rounds of reads. It has no
// goroutine, clock, random source, file, socket or lock. The caller feeds it events (Tick, Step,
// Ack, Propose, Read ...) and carries out the effects that [Replica.Ready] hands back: messages
// for peers, an append for the log, entries to apply, reads that may run, commands to forward.
// In production the node package carries them on goroutines; a simulation carries the very same
// effects on a virtual clock.
//
// Commands and reads are opaque here: the caller passes its own values through the [Proposal] and
// [Read] interfaces and gets the same values back in the effects.
package replica
