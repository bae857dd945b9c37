package sim_test

// State Machine Safety (thesis figure 3.2) and commitment (section 3.6.2): what one replica holds
// for committed every other does too, it never changes, and a quorum has it on disk.

// checkCommit holds what became committed on a replica against what is known to be.
func (g *group) checkCommit(from, to uint64) {
	o := g.w.oracle.group(g.id)
	for index := from + 1; index <= to; index++ {
		id, ok := g.handed.at(index)
		if !ok {
			if index > g.handed.base {
				g.w.violated("order", "node %d, group %d: entry %d is committed and not in the log",
					g.p.h.id, g.id, index)
			}
			continue // within a snapshot
		}
		if index <= o.last() {
			if known := o.at(index); known != id {
				g.w.violated("state machine safety",
					"node %d, group %d has entry %d of term %d committed, elsewhere it is of term %d",
					g.p.h.id, g.id, index, id.term, known.term)
			}
			continue
		}
		if index != o.last()+1 {
			g.w.violated("state machine safety",
				"node %d, group %d: entry %d is committed, the last one known is %d", g.p.h.id, g.id,
				index, o.last())
		}
		o.commit(index, id)
	}
	if to == o.last() && to > from && to >= firstIndex && to > o.quorumChecked {
		o.quorumChecked = to
		o.checkQuorum(to, o.at(to).term, g)
		o.checkLeaders(to, o.at(to).term)
	}
}

// checkQuorum counts the disks that have promised to keep an entry. A disk that may have lost what
// it promised counts: nobody relies on it any more when it takes part again.
//
// The leader shows first that an entry is committed, and counts the members that were in force since
// the last look at it.
func (o *groupOracle) checkQuorum(index, term uint64, g *group) {
	kept := func(id uint64) bool {
		h := o.w.host(id)
		v := h.promised[o.id]
		return h.weak[o.id] || v != nil && v.holds(index, term)
	}
	for _, c := range g.inForce {
		if majority(c, kept) {
			return
		}
	}
	o.w.violated("commitment", "group %d: entry %d of term %d is committed and not durable on a "+
		"majority of any of %v", o.id, index, term, g.inForce)
}
