package sim_test

// Log Matching (thesis figure 3.2 and section 3.5): two entries of one index and term are the same,
// and so are the entries before them. It is held for every entry that any replica ever hands to its
// log, or finds there.

// place identifies an entry by what should determine it.
type place struct{ index, term uint64 }

// matched is what the first log that had an entry had at this place.
type matched struct {
	hash      uint64
	priorTerm uint64
}

// checkMatching holds the entries of a view from first on against all others ever seen.
func (o *groupOracle) checkMatching(v *logView, first uint64, node uint64) {
	for index := max(first, v.base+1); index <= v.last(); index++ {
		id, _ := v.at(index)
		prior, ok := v.termAt(index - 1)
		if !ok {
			continue
		}
		m := matched{id.hash, prior}
		seen, ok := o.places[place{index, id.term}]
		if !ok {
			o.places[place{index, id.term}] = m
		} else if seen != m {
			o.w.violated("log matching",
				"node %d, group %d, entry %d of term %d: %x behind term %d, elsewhere %x behind term %d",
				node, o.id, index, id.term, m.hash, m.priorTerm, seen.hash, seen.priorTerm)
		}
	}
}
