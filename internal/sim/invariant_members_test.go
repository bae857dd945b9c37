package sim_test

import (
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// Membership (thesis chapter 4): a change takes effect in the order of the log and alike on all, one
// after the other; who asks for one on a version gets it behind that version or not at all.

// commitChange notes a committed change and returns the configuration behind it, nil when every
// replica must refuse it.
func (o *groupOracle) commitChange(index uint64, data []byte) *pb.ConfState {
	next, err := changed(o.now().state, data)
	if c := o.tagOf(data); c != nil {
		o.checkChange(c, index, err == nil)
	}
	if err != nil {
		return nil
	}
	return next
}

func (o *groupOracle) checkChange(c *change, index uint64, effective bool) {
	if c.index != 0 {
		o.w.violated("membership", "change %d of group %d is entry %d and entry %d", c.id, o.id,
			c.index, index)
	}
	c.index, c.effective = index, effective
	if c.refused && effective {
		o.w.violated("membership", "change %d of group %d was refused (%v), entry %d has it", c.id,
			o.id, c.err, index)
	}
	if c.version != 0 && c.version != o.now().index {
		o.w.violated("membership", "change %d of group %d was decided on version %d, and is entry %d "+
			"behind version %d", c.id, o.id, c.version, index, o.now().index)
	}
}

// checkMembers holds what a replica takes for the members against the log.
func (g *group) checkMembers() {
	o := g.w.oracle.group(g.id)
	for _, m := range g.memberships {
		known := o.configAt(m.Index)
		if known.index != m.Index || !isSame(known.state, m.ConfState) {
			g.w.violated("membership", "node %d, group %d has the members %v behind entry %d, the log "+
				"gives %v at %d", g.p.h.id, g.id, m.ConfState, m.Index, known.state, known.index)
		}
	}
	g.memberships = nil
	if g.handedIndex == 0 || g.handedIndex > o.last() || g.handedIndex == g.checkedMembers {
		return
	}
	g.checkedMembers = g.handedIndex
	if want := o.configAt(g.handedIndex); !isSame(want.state, g.core.Members()) {
		g.w.violated("membership", "node %d, group %d counts the members %v at entry %d, the log gives %v",
			g.p.h.id, g.id, g.core.Members(), g.handedIndex, want.state)
	}
}

// checkDirectory holds the directory of an apply stage against the log.
func (g *group) checkDirectory() {
	want := g.w.oracle.group(g.id).configAt(g.apply.applied)
	if !sameDirectory(g.apply.stage.Directory(), want.directory) {
		g.w.violated("membership", "node %d, group %d has the directory %+v at entry %d, the log gives %+v",
			g.p.h.id, g.id, g.apply.stage.Directory(), g.apply.applied, want.directory)
	}
}

// checkOneChange looks at changes that a leader puts into its log: one at a time (thesis section
// 4.1; raft counts up to the application of the one before).
func (g *group) checkOneChange(entries []*pb.Entry, status raft.StateType, term, commit uint64) {
	for _, e := range entries {
		if e.GetType() == pb.EntryNormal || status != raft.StateLeader || e.GetTerm() != term {
			continue
		}
		for index := max(commit, g.handed.base) + 1; index < e.GetIndex(); index++ {
			if id, ok := g.handed.at(index); ok && id.changes {
				g.w.violated("membership", "node %d, group %d proposes a change at entry %d while that of "+
					"entry %d is not committed", g.p.h.id, g.id, e.GetIndex(), index)
			}
		}
	}
}

// checkElected looks at a replica that has just become leader: a majority of each half of its
// members, which are one of these, has voted for it, on disk (thesis section 3.4).
func (g *group) checkElected(term uint64, members ...*pb.ConfState) {
	self := g.p.h.id
	voted := func(id uint64) bool {
		h := g.w.host(id)
		v := h.promised[g.id]
		return h.isBroken(g.id) || v != nil && (v.state.Term > term || v.state.Term == term && v.state.Vote == self)
	}
	if !slices.ContainsFunc(members, func(s *pb.ConfState) bool { return majority(s, voted) }) {
		g.w.violated("election safety", "node %d leads group %d in term %d without a durable majority of %v",
			self, g.id, term, members)
	}
}

// checkFollows: whoever is followed in a term is the leader of that term.
func (g *group) checkFollows(leader, term uint64) {
	if leader == raft.None {
		return
	}
	if known := g.w.oracle.group(g.id).leaders[term].node; known != leader {
		g.w.violated("election safety", "node %d, group %d follows node %d in term %d, its leader is %d",
			g.p.h.id, g.id, leader, term, known)
	}
}
