package replica

import (
	"errors"
	"slices"
)

// batches are the entries this replica proposed that are not known to be committed, in the order
// of their proposal. Positions rise within a term; a replica that lost its leadership and won it
// again may hold two batches of different terms for one index.
type batches struct {
	list []*Batch
}

func (b *batches) add(batch *Batch) { b.list = append(b.list, batch) }

// resolve ends every batch at index: the one of the committed entry's term is returned, to be
// completed when it is applied, and the others are surely lost.
func (b *batches) resolve(index, term uint64) (committed *Batch, lost []*Batch) {
	if len(b.list) == 0 {
		return nil, nil
	}
	if head := b.list[0]; head.Index == index && head.Term == term && b.inOneTerm() {
		b.list[0] = nil
		b.list = b.list[1:]
		return head, nil
	}
	for _, batch := range b.remove(func(i uint64) bool { return i == index }) {
		if batch.Term == term {
			committed = batch
		} else {
			lost = append(lost, batch)
		}
	}
	return committed, lost
}

func (b *batches) inOneTerm() bool { return b.list[0].Term == b.list[len(b.list)-1].Term }

// upTo takes the batches up to index out.
func (b *batches) upTo(index uint64) []*Batch {
	return b.remove(func(i uint64) bool { return i <= index })
}

// remove takes the batches at some positions out.
func (b *batches) remove(which func(index uint64) bool) (removed []*Batch) {
	kept := b.list[:0]
	for _, batch := range b.list {
		if which(batch.Index) {
			removed = append(removed, batch)
		} else {
			kept = append(kept, batch)
		}
	}
	clear(b.list[len(kept):])
	b.list = kept
	return removed
}

// lose ends batches that are not applied here.
func (r *Replica) lose(lost []*Batch, unknown bool, err error) {
	var proposals []Proposal
	for _, b := range lost {
		proposals = append(proposals, b.Proposals...)
		if b.change != nil {
			r.out.Changes = append(r.out.Changes,
				ChangeEnd{Change: b.change, Err: err, Unknown: unknown})
		}
	}
	if proposals != nil {
		r.out.Lost = append(r.out.Lost, Lost{Proposals: proposals, Err: err, Unknown: unknown})
	}
}

// giveUpCut ends commands whose entries another leader has cut off the end of this log, when nothing
// has been committed at their places for an election timeout: if nobody writes nothing ever is. A
// replica that still has the entries may yet lead and commit them, so their fate is open.
func (r *Replica) giveUpCut() {
	if len(r.placed.list) == 0 {
		r.cutTicks = 0
		return
	}
	last := r.last
	behind := func(index uint64) bool { return index > last }
	if !slices.ContainsFunc(r.placed.list, func(b *Batch) bool { return behind(b.Index) }) {
		r.cutTicks = 0
		return
	}
	if r.cutTicks++; r.cutTicks < r.config.ElectionTicks {
		return
	}
	r.lose(r.placed.remove(behind), true,
		errors.New("replica: another leader's log is shorter"))
}

// Pending takes every command that this replica still holds, for a caller that gives it up. Those
// that are not proposed yet are returned apart from those whose fate the log decides.
func (r *Replica) Pending() (queued, placed []Proposal) {
	r.out.Changes = r.PendingChanges()
	queued, r.queue = append(r.queue, r.out.Forward...), nil
	for _, lost := range r.out.Lost {
		if lost.Unknown {
			placed = append(placed, lost.Proposals...)
		} else {
			queued = append(queued, lost.Proposals...)
		}
	}
	if r.out.Apply != nil {
		for _, b := range r.out.Apply.Batches {
			r.fresh = append(r.fresh, b)
		}
	}
	for _, b := range r.fresh {
		if b != nil {
			placed = append(placed, b.Proposals...)
		}
	}
	r.fresh = nil
	r.out.Forward, r.out.Lost, r.out.Apply = nil, nil, nil
	for _, b := range r.placed.upTo(^uint64(0)) {
		placed = append(placed, b.Proposals...)
	}
	return queued, placed
}

// PendingReads takes every read that waits for its index.
func (r *Replica) PendingReads() []Read {
	r.reads.retry()
	waiting := append(r.reads.waiting, r.reads.arrived...)
	r.reads.waiting, r.reads.arrived = nil, nil
	for _, round := range r.out.Reads {
		waiting = append(waiting, round.Reads...)
	}
	r.out.Reads = nil
	return waiting
}
