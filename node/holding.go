package node

import "time"

// commitDelay is how long a leader may keep a commit index from its followers for the next entry to
// carry it: long enough for a group under load to have a next entry, and far below a tick, by which
// they may lag anyway.
const commitDelay = 5 * time.Millisecond

// holding is the groups of an event loop whose cores hold commit indexes back. It is the loop's own.
type holding struct {
	timer  *time.Timer // runs while there are groups
	groups []*Group
}

func newHolding() holding {
	h := holding{timer: time.NewTimer(commitDelay)}
	h.timer.Stop()
	return h
}

func (h *holding) add(g *Group) {
	if g.holds {
		return
	}
	g.holds = true
	h.groups = append(h.groups, g)
	if len(h.groups) == 1 {
		h.timer.Reset(commitDelay)
	}
}

// flush has the cores send what they hold. It may be less than commitDelay old.
func (h *holding) flush() {
	groups := h.groups
	h.groups = nil
	for _, g := range groups {
		g.holds = false
		g.flush()
	}
	if h.groups == nil {
		clear(groups)
		h.groups = groups[:0]
	}
}

func (g *Group) flush() {
	if g.core == nil || g.failed.Load() != nil {
		return
	}
	defer g.recoverPanic("event loop")
	g.core.Flush()
	g.collect()
}
