package replica

import (
	"encoding/binary"

	"go.etcd.io/raft/v3"
)

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
	waiting []Read

	// The round under way: none when current is empty.
	current []Read
	id      uint64
	leader  uint64 // whom the round asked
	ticks   int    // since the round began
}

// startable reports whether a round can begin.
func (r *reads) startable(leader uint64) bool {
	return leader != raft.None && len(r.current) == 0 && len(r.waiting) > 0
}

// start begins a round and returns its id.
func (r *reads) start(leader uint64) uint64 {
	r.current, r.waiting = r.waiting, nil
	r.id, r.leader, r.ticks = r.next, leader, 0
	r.next++
	return r.id
}

// tick counts the age of the round. Raft drops rounds silently (no leader, a lost message): one
// that is too old is asked again under a new id.
func (r *reads) tick(limit int) {
	if len(r.current) == 0 {
		return
	}
	r.ticks++
	if r.ticks >= limit {
		r.retry()
	}
}

// observe retries the round when another leader answers now.
func (r *reads) observe(leader uint64) {
	if len(r.current) != 0 && r.leader != leader {
		r.retry()
	}
}

// retry puts the reads of the round back in front of the waiting.
func (r *reads) retry() {
	r.waiting = append(r.current, r.waiting...)
	r.current = nil
}

// confirm ends the round that a read state of raft answers; answers to other rounds are late ones
// and mean nothing.
func (r *reads) confirm(state raft.ReadState) (ReadRound, bool) {
	if len(state.RequestCtx) != 8 || len(r.current) == 0 ||
		binary.LittleEndian.Uint64(state.RequestCtx) != r.id {
		return ReadRound{}, false
	}
	round := ReadRound{Index: state.Index, Reads: r.current}
	r.current = nil
	return round, true
}

func (r *reads) revoke() {}
