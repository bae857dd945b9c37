package replica

import (
	"encoding/binary"
	"time"

	"go.etcd.io/raft/v3"
)

// Read is a read waiting for the index that it may run at.
type Read interface {
	// Withdrawn reports whether the waiter has left.
	Withdrawn() bool
	// Freshness says what the read may be answered from. It never changes.
	Freshness() Freshness
}

// Freshness says which confirmation a read needs. With the zero value it is linearizable: only a
// round of ReadIndex that begins after the read will do.
type Freshness struct {
	// Leased: on the leader, its lease will do. The read is linearizable for as long as the clocks
	// of the members run at the same speed, within what Config.Lease allows for.
	Leased bool
	// MaxAge: the newest round of this node will do when it began at most so long ago, so the answer
	// reflects everything that was acknowledged anywhere before then.
	MaxAge time.Duration
}

// ReadRound is reads that may run once the state machine has applied Index.
type ReadRound struct {
	Index uint64
	Reads []Read
}

// reads keeps the reads of a replica. One round of ReadIndex is under way at a time and serves
// every read that waited when it began; what comes later waits for the next round, because a round
// only proves leadership at its beginning (thesis section 6.4).
type reads struct {
	next    uint64 // id of the next round; never used twice (etcd issue 20418)
	arrived []Read // since the last Ready
	waiting []Read // for the next round
	renewal bool   // the lease is worth a round although no read waits for one

	// The round under way, when open.
	open    bool
	current []Read
	round   round
	ticks   int // since it began

	confirmed round // the newest round that was confirmed; index 0 = none
	lease     round // the newest one that the lease counts from; index 0 = none
}

// round is one round of ReadIndex.
type round struct {
	id     uint64
	began  int64  // on the monotonic clock, ns
	leader uint64 // whom the round asked
	term   uint64 // in which it began
	lasts  bool   // the lease may count from it
	index  uint64 // what it has confirmed
}

// wanted reports whether a round is to begin once there is a leader to ask.
func (r *reads) wanted() bool { return !r.open && (len(r.waiting) > 0 || r.renewal) }

// start begins a round and returns its id.
func (r *reads) start(leader, term uint64, mono int64) uint64 {
	r.open, r.renewal = true, false
	r.current, r.waiting = r.waiting, nil
	r.round = round{id: r.next, began: mono, leader: leader, term: term, lasts: true}
	r.ticks = 0
	r.next++
	return r.round.id
}

// tick counts the age of the round. Raft drops rounds silently (no leader, a lost message): one
// that is too old is asked again under a new id.
func (r *reads) tick(limit int) {
	if !r.open {
		return
	}
	r.ticks++
	if r.ticks >= limit {
		r.retry()
	}
}

// observe retries the round when another leader answers now.
func (r *reads) observe(leader uint64) {
	if r.open && r.round.leader != leader {
		r.retry()
	}
}

// retry puts the reads of the round back in front of the waiting.
func (r *reads) retry() {
	r.waiting = append(r.current, r.waiting...)
	r.current, r.open = nil, false
}

// confirm ends the round that a read state of raft answers; answers to other rounds are late ones
// and mean nothing.
func (r *reads) confirm(state raft.ReadState) (confirmed ReadRound, ok bool) {
	if len(state.RequestCtx) != 8 || !r.open ||
		binary.LittleEndian.Uint64(state.RequestCtx) != r.round.id {
		return ReadRound{}, false
	}
	r.round.index = state.Index
	r.confirmed = r.round
	if r.round.lasts {
		r.lease = r.round
	}
	confirmed = ReadRound{Index: state.Index, Reads: r.current}
	r.current, r.open = nil, false
	return confirmed, true
}

// recent returns the newest confirmed round when it began at most maxAge ago.
func (r *reads) recent(maxAge time.Duration, mono int64) (index uint64, ok bool) {
	ok = maxAge > 0 && r.confirmed.index != 0 && mono-r.confirmed.began <= int64(maxAge)
	return r.confirmed.index, ok
}

// sortReads hands the reads out that arrived and need no round of their own; the others wait for one.
// It runs before the next round begins, and mono was read after they arrived: an older time would
// let a lease answer that has ended when the read began.
func (r *Replica) sortReads(mono int64, out *Ready) {
	if len(r.reads.arrived) == 0 {
		return
	}
	leased := ReadRound{Index: r.leased(mono)}
	var recent ReadRound
	for _, read := range r.reads.arrived {
		freshness := read.Freshness()
		if index, ok := r.reads.recent(freshness.MaxAge, mono); ok {
			recent.Index = index
			recent.Reads = append(recent.Reads, read)
		} else if freshness.Leased && leased.Index != 0 {
			leased.Reads = append(leased.Reads, read)
		} else {
			r.reads.waiting = append(r.reads.waiting, read)
		}
	}
	r.reads.arrived = nil
	for _, round := range []ReadRound{leased, recent} {
		if len(round.Reads) > 0 {
			out.Reads = append(out.Reads, round)
		}
	}
}
