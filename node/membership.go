package node

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
)

// Membership is who carries a group, as of one entry of its log.
type Membership struct {
	Version  uint64   `json:"version"` // index of the entry that made it so
	Voters   []Member `json:"voters"`
	Learners []Member `json:"learners"`
	// Joint says that a change is between its two halves: what is committed needs a majority of
	// Voters and one of the voters before.
	Joint   bool     `json:"joint"`
	Leaving []Member `json:"leaving,omitempty"` // vote until the change is complete, and not after

	unplaced []uint64 // for a change under way: see controlAnswer
}

// Member returns the member of an id, in whatever part.
func (m *Membership) Member(id uint64) (Member, bool) {
	for _, list := range [][]Member{m.Voters, m.Learners, m.Leaving} {
		if i := slices.IndexFunc(list, func(x Member) bool { return x.ID == id }); i >= 0 {
			return list[i], true
		}
	}
	return Member{}, false
}

func (m *Membership) has(id uint64) bool {
	_, ok := m.Member(id)
	return ok
}

func (m *Membership) votes(id uint64) bool  { return contains(m.Voters, id) }
func (m *Membership) learns(id uint64) bool { return contains(m.Learners, id) }

// all returns every member once.
func (m *Membership) all() []Member { return slices.Concat(m.Voters, m.Learners, m.Leaving) }

func contains(list []Member, id uint64) bool {
	return slices.ContainsFunc(list, func(m Member) bool { return m.ID == id })
}

// String lists the ids, as events and errors show them.
func (m *Membership) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version %d", m.Version)
	for _, part := range []struct {
		name string
		list []Member
	}{{"voters", m.Voters}, {"learners", m.Learners}, {"leaving", m.Leaving}} {
		if len(part.list) == 0 {
			continue
		}
		fmt.Fprintf(&b, ", %s", part.name)
		for _, m := range part.list {
			fmt.Fprintf(&b, " %d", m.ID)
		}
	}
	return b.String()
}

// memberState is what a group keeps about its members beside the apply stage's directory.
type memberState struct {
	// first is whom a group begins with that is new to the log; without this node among them it
	// begins with nobody and waits to be added.
	first []Member
	// conf is the configuration of what was handed out to be applied, or installed.
	conf atomic.Pointer[pb.ConfState]
	// unsettled is an index up to which the log may have a change that conf does not have, committed or
	// not; 0 = none. The worker's, and read elsewhere; conf is stored before it becomes 0.
	unsettled atomic.Uint64
	// handed is the worker's: up to where entries were handed out to be applied, or installed.
	handed uint64
	// since is the oldest version whose members are the same as those now, but for incarnations: to
	// have read any of these is to have decided on what is now.
	since atomic.Uint64
	// out is set while there are members and this node is none of them, as of what is applied here.
	out atomic.Bool
	// learner is set while this node learns, as of what is applied here.
	learner atomic.Bool
	// gone says how it is known that this node is no member any more; nil when it is not.
	gone atomic.Pointer[absent]
	// transfers is the worker's: who waits for the end of a transfer.
	transfers []*transferWait
}

// absent is how a node knows that it was removed.
type absent struct {
	how string
	now *Membership // as a peer told it, nil = it did not
}

// Membership returns the members as of the last entry applied on this node; a node that waits to be
// added knows of none.
func (g *Group) Membership() Membership {
	return g.node.roster.membership(g.apply.directory.Load())
}

// unplaced returns the members whose address is not in the directory.
func (g *Group) unplaced() (list []uint64) {
	d := g.apply.directory.Load()
	for _, id := range allIDs(d.State) {
		if m, _ := d.Member(id); m.Address == "" {
			list = append(list, id)
		}
	}
	return list
}

// Member returns a member of the group as Membership does, and takes no memory for it.
func (g *Group) Member(id uint64) (Member, bool) {
	d := g.apply.directory.Load()
	s := d.State
	for _, part := range [][]uint64{s.GetVoters(), s.GetLearners(), s.GetVotersOutgoing()} {
		if slices.Contains(part, id) {
			m, _ := d.Member(id)
			return g.node.roster.fill(m, id), true
		}
	}
	return Member{}, false
}

// directoryChanged runs in the apply stage when the members have changed there, and at the
// beginning.
func (g *Group) directoryChanged(before, d *apply.Directory) {
	same := g.begun.Load() && sameMembers(before, d)
	if !same {
		g.members.since.Store(d.Version)
	}
	isOne := isMember(d.State, g.node.options.ID)
	g.members.out.Store(len(d.State.GetVoters()) > 0 && !isOne)
	g.members.learner.Store(slices.Contains(d.State.GetLearners(), g.node.options.ID))
	left := g.node.roster.update(g.id, d)
	m := g.node.roster.membership(d)
	for _, id := range left {
		g.node.control.tellGone(g, id, m)
	}
	if isOne {
		g.members.gone.Store(nil)
	}
	if !g.begun.Load() {
		return // it is the beginning, and not a change
	}
	if same {
		return // an incarnation was registered
	}
	g.log.Info("membership changed", "membership", m.String())
	g.emit(Event{Kind: MembershipChanged, Index: m.Version, Detail: m.String()})
}

// sameMembers reports whether two directories differ in incarnations at most.
func sameMembers(a, b *apply.Directory) bool {
	if !proto.Equal(a.State, b.State) {
		return false
	}
	for _, id := range allIDs(a.State) {
		x, _ := a.Member(id)
		y, _ := b.Member(id)
		if x.Address != y.Address {
			return false
		}
	}
	return true
}

// noteChanges notes what the log is about to get, before anybody can hear that it has it. It runs on
// the worker.
func (g *Group) noteChanges(a *replica.Append) {
	m := &g.members
	if a.Snapshot != nil {
		m.conf.Store(a.Snapshot.GetMetadata().GetConfState())
		m.handed = a.Snapshot.GetMetadata().GetIndex()
		m.unsettled.Store(0)
	}
	if len(a.Entries) == 0 {
		return
	}
	last := min(m.unsettled.Load(), a.Entries[0].GetIndex()-1) // the rest is overwritten
	for _, e := range a.Entries {
		if e.GetType() != pb.EntryNormal {
			last = e.GetIndex()
		}
	}
	m.settle(last)
}

// settle notes an index up to which the log may have changes.
func (m *memberState) settle(last uint64) {
	if last <= m.handed {
		last = 0
	}
	if last != m.unsettled.Load() {
		m.unsettled.Store(last)
	}
}

// carryMembers notes what a Ready says about the configuration. It runs on the worker.
func (g *Group) carryMembers(rd *replica.Ready) {
	if rd.Apply != nil {
		if n := len(rd.Apply.Members); n > 0 {
			g.members.conf.Store(rd.Apply.Members[n-1].ConfState)
		}
		if n := len(rd.Apply.Entries); n > 0 {
			g.members.handed = rd.Apply.Entries[n-1].GetIndex()
			g.members.settle(g.members.unsettled.Load())
		}
	}
	g.endChanges(rd.Changes)
	if rd.Transferred != nil {
		g.endTransfers(rd.Transferred.To, rd.Transferred.Err)
	}
}

// endChanges ends changes of the configuration that are not applied here.
func (g *Group) endChanges(ends []replica.ChangeEnd) {
	for _, e := range ends {
		err := e.Err
		if err == nil {
			err = g.stopError()
		}
		e.Change.(*memberChange).end(err, e.Unknown)
	}
}

// firstMembers are those of the options whom a group begins with.
func (n *Node) firstMembers() []Member {
	if n.options.Join {
		return nil
	}
	return n.options.Members
}

// hasPeers reports whether there may be others to ask when the log is damaged: the options name
// some, or a snapshot does. A member that was added was sent a snapshot with itself in it, so
// whoever grew from one voter has one.
func (n *Node) hasPeers() bool {
	if n.options.Join || len(n.options.Members) > 1 {
		return true
	}
	for _, group := range n.snaps.Groups() {
		for _, m := range n.snaps.List(group) {
			if len(allIDs(m.ConfState)) > 1 {
				return true
			}
		}
	}
	return false
}

// waitsToBeAdded reports whether the group is none of this node's yet: it begins empty, and nothing
// was lost.
func (g *Group) waitsToBeAdded() bool { return g.beginsEmpty() && g.wal.Damage() == nil }

// beginsEmpty reports whether the group has nothing here before a leader sends it a snapshot: nothing is
// in the log, or left of it, and this node is not one of the first members. It does not know the first
// ones either, so it must not begin with them: to apply changes to nobody would make members of its own.
func (g *Group) beginsEmpty() bool {
	return g.wal.LastIndex() == 0 && !contains(g.members.first, g.node.options.ID)
}

// learnGone notes that this node is no member any more, told by somebody who has seen it leave.
func (g *Group) learnGone(how string, now *Membership) {
	before := g.members.gone.Load()
	if before != nil && before.now != nil && now == nil {
		return // nothing that is not known
	}
	if g.members.gone.Swap(&absent{how, now}) == nil {
		g.log.Warn("this node was removed from the group and can be stopped", "how", how)
	}
}

// outside reports whether this node knows that it was removed: it stands for no election and takes
// nothing.
func (g *Group) outside() bool { return g.members.gone.Load() != nil || g.members.out.Load() }

// absence says why this node has no part in the group when that is not an election's doing: it was
// removed, it is refused, or it was never added. nil when none of these is known.
func (g *Group) absence() error {
	self := g.node.options.ID
	if gone := g.members.gone.Load(); gone != nil {
		return fmt.Errorf("%w: group %d: %s", ErrRemoved, g.id, gone.how)
	}
	if g.members.out.Load() {
		return fmt.Errorf("%w: group %d: the entry that removes node %d is applied", ErrRemoved,
			g.id, self)
	}
	if g.lead.Load() != 0 {
		return nil
	}
	if why := g.node.refusals.why(); why != "" {
		return fmt.Errorf("%w: %s", ErrRefused, why)
	}
	if g.begun.Load() && !g.fenced.Load() &&
		len(g.apply.directory.Load().State.GetVoters()) == 0 {
		own, _ := g.node.options.member(self)
		return fmt.Errorf("%w: group %d does not have node %d yet: connect member add %s --admin "+
			"HOST:PORT of a member", ErrNotAdded, g.id, self, cmp.Or(own.adminAddress(), "HOST:PORT"))
	}
	return nil
}

// roleHere names the part of this node in the group, for Status.
func (g *Group) roleHere() string {
	if g.absence() != nil {
		return "absent"
	}
	role := roleName(raft.StateType(g.role.Load()))
	if role == "follower" && g.members.learner.Load() {
		return "learner"
	}
	return role
}
