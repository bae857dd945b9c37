package sim_test

import (
	"errors"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/internal/apply"
)

// The configurations of a group, told once more beside raft: what a change in the log makes of the
// members (thesis chapter 4), and what a majority of them is.

// configuration is who the members are from an index of the log on.
type configuration struct {
	index     uint64
	state     *pb.ConfState
	directory *apply.Directory // nil for a configuration that is not committed
}

// changed returns what an entry makes of a configuration, or an error when every replica must refuse
// it.
func changed(now *pb.ConfState, data []byte) (*pb.ConfState, error) {
	var c pb.ConfChangeV2
	if err := proto.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	next := &pb.ConfState{
		Voters:         slices.Clone(now.GetVoters()),
		Learners:       slices.Clone(now.GetLearners()),
		VotersOutgoing: slices.Clone(now.GetVotersOutgoing()),
		LearnersNext:   slices.Clone(now.GetLearnersNext()),
	}
	isJoint := len(now.GetVotersOutgoing()) > 0
	if len(c.GetChanges()) == 0 && c.GetTransition() == pb.ConfChangeTransitionAuto {
		if !isJoint {
			return nil, errors.New("nothing to leave")
		}
		next.Learners = union(next.Learners, next.LearnersNext)
		next.VotersOutgoing, next.LearnersNext = nil, nil
		return next, nil
	}
	if isJoint {
		return nil, errors.New("the change before is not complete")
	}
	if len(c.GetChanges()) > 1 || c.GetTransition() != pb.ConfChangeTransitionAuto {
		next.VotersOutgoing = slices.Clone(now.GetVoters())
		next.AutoLeave = new(c.GetTransition() != pb.ConfChangeTransitionJointExplicit)
	}
	for _, single := range c.GetChanges() {
		changeOne(next, single)
	}
	if len(next.Voters) == 0 {
		return nil, errors.New("no voter is left")
	}
	return next, nil
}

func changeOne(s *pb.ConfState, single *pb.ConfChangeSingle) {
	id := single.GetNodeId()
	isLearner := slices.Contains(s.Learners, id)
	switch single.GetType() {
	case pb.ConfChangeUpdateNode:
		return
	case pb.ConfChangeAddLearnerNode:
		if isLearner {
			return
		}
	}
	for _, list := range []*[]uint64{&s.Voters, &s.Learners, &s.LearnersNext} {
		*list = slices.DeleteFunc(*list, func(x uint64) bool { return x == id })
	}
	switch single.GetType() {
	case pb.ConfChangeAddNode:
		s.Voters = union(s.Voters, []uint64{id})
	case pb.ConfChangeAddLearnerNode:
		if slices.Contains(s.VotersOutgoing, id) {
			s.LearnersNext = union(s.LearnersNext, []uint64{id})
		} else {
			s.Learners = union(s.Learners, []uint64{id})
		}
	}
}

func union(a, b []uint64) []uint64 {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// isSame compares configurations, whatever the order of their lists.
func isSame(a, b *pb.ConfState) bool {
	return isSameSet(a.GetVoters(), b.GetVoters()) &&
		isSameSet(a.GetLearners(), b.GetLearners()) &&
		isSameSet(a.GetVotersOutgoing(), b.GetVotersOutgoing()) &&
		isSameSet(a.GetLearnersNext(), b.GetLearnersNext()) &&
		a.GetAutoLeave() == b.GetAutoLeave()
}

func isSameSet(a, b []uint64) bool {
	return slices.Equal(a, b) || slices.Equal(union(a, nil), union(b, nil))
}

// majority reports whether those that has says yes to are a majority of each half.
func majority(s *pb.ConfState, has func(id uint64) bool) bool {
	for _, half := range [][]uint64{s.GetVoters(), s.GetVotersOutgoing()} {
		n := 0
		for _, id := range half {
			if has(id) {
				n++
			}
		}
		if len(half) > 0 && n <= len(half)/2 {
			return false
		}
	}
	return len(s.GetVoters()) > 0
}

// behind is the configuration behind an entry that makes it: next, or the same one when the entry is
// refused.
func (c *configuration) behind(index uint64, next *pb.ConfState, data []byte) configuration {
	d := &apply.Directory{Version: index, Members: c.directory.Members, State: c.state}
	if next == nil {
		return configuration{index, c.state, d}
	}
	known := map[uint64]apply.Member{}
	for _, m := range d.Members {
		known[m.ID] = m
	}
	for _, m := range namedIn(data) {
		known[m.ID] = m
	}
	d.Members, d.State = nil, next
	for _, id := range allIDs(next) {
		if m, ok := known[id]; ok {
			d.Members = append(d.Members, m)
		}
	}
	return configuration{index, next, d}
}

// namedIn returns the members that a change describes.
func namedIn(data []byte) []apply.Member {
	var c pb.ConfChangeV2
	if proto.Unmarshal(data, &c) != nil || len(c.GetContext()) == 0 {
		return nil
	}
	members, _ := apply.ParseMembers(c.GetContext())
	return members
}

// now is the newest configuration that is committed.
func (o *groupOracle) now() *configuration { return &o.configs[len(o.configs)-1] }

// configAt is the configuration behind an entry.
func (o *groupOracle) configAt(index uint64) *configuration {
	for i := len(o.configs) - 1; i > 0; i-- {
		if o.configs[i].index <= index {
			return &o.configs[i]
		}
	}
	return &o.configs[0]
}

// possible are the configurations that some member may go by: the newest committed one, those before
// it until every member is sure to know better after any crash, those that may be next, because some
// log has the change to them, and those behind a change that is still to be proposed.
func (o *groupOracle) possible() (list []*pb.ConfState) {
	var known []configuration
	for i := len(o.configs) - 1; i >= 0; i-- {
		known = append(known, o.configs[i])
		if o.isSettled(&o.configs[i]) {
			break
		}
	}
	for _, h := range o.w.hosts {
		views := []*logView{h.promised[o.id]}
		if h.proc != nil && h.proc.opened {
			views = append(views, h.proc.group(o.id).handed)
		}
		for _, v := range views {
			known = o.pending(known, v)
		}
	}
	for _, c := range o.awaited(known) {
		list = append(list, c.state)
	}
	return list
}

// awaited adds the configurations behind changes that have been asked for and not ended. A leader waits
// with one until the members answer its poll, and has it in no log before: those who have answered may
// be the ones that are broken the next moment.
func (o *groupOracle) awaited(known []configuration) []configuration {
	for _, c := range o.asked {
		if c.ended || c.index != 0 || c.at.p.dead {
			continue
		}
		for _, k := range known {
			if c.version != 0 && c.version != k.index {
				continue
			}
			if next, err := changed(k.state, c.data); err == nil {
				known = append(known, configuration{index: unknownIndex, state: next})
			}
		}
	}
	return known
}

// unknownIndex is that of a configuration that no log has: nobody decides on that version.
const unknownIndex = ^uint64(0)

// isSettled reports whether every voter knows on disk that a configuration is committed. A change
// counts from its application on, so one who does not know goes by an older one after a crash.
func (o *groupOracle) isSettled(c *configuration) bool {
	for _, id := range c.state.GetVoters() {
		h := o.w.host(id)
		v := h.promised[o.id]
		if !h.lost && c.index >= firstIndex && (v == nil || max(v.state.Commit, v.base) < c.index) {
			return false
		}
	}
	return true
}

// pending adds the configuration that the uncommitted end of a log has.
func (o *groupOracle) pending(known []configuration, v *logView) []configuration {
	if v == nil {
		return known
	}
	for index := max(o.last(), v.base) + 1; index <= v.last(); index++ {
		id, _ := v.at(index)
		p, ok := o.data[place{index, id.term}]
		if !ok || p.kind == pb.EntryNormal {
			continue
		}
		if next, err := changed(o.now().state, p.data); err == nil {
			known = append(known, configuration{index: index, state: next})
		}
	}
	return known
}

// holds reports whether every configuration that may be in force has a majority of these.
func (w *world) holds(has func(h *host, group uint64) bool) bool {
	for _, o := range w.oracle.groups {
		for _, s := range o.possible() {
			if !majority(s, func(id uint64) bool { return has(w.host(id), o.id) }) {
				return false
			}
		}
	}
	return true
}

// isAnywhere reports whether a host is, or may become, a member of a group.
func (h *host) isAnywhere() bool {
	for _, o := range h.w.oracle.groups {
		for _, s := range o.possible() {
			if isMember(s, h.id) {
				return true
			}
		}
	}
	return false
}
