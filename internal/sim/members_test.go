package sim_test

import (
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
)

// What node does about members beside the core: the twin of node/membership.go and of those parts of
// node/identity.go and node/roster.go by which a node learns that it was removed.

// first is the membership that every group begins with.
func (w *world) first() *pb.ConfState {
	state := &pb.ConfState{}
	for id := range w.plan.config.replicas {
		state.Voters = append(state.Voters, uint64(id+1))
	}
	return state
}

// voters is what the nodes take for that (Group.firstVoters).
func (w *world) voters() *pb.ConfState {
	state := w.first()
	if w.is(smallQuorum) && len(state.Voters)%2 == 0 {
		state.Voters = state.Voters[1:]
	}
	return state
}

// isFirst reports whether every group begins with the host. The others wait to be added.
func (h *host) isFirst() bool { return h.id <= uint64(h.w.plan.config.replicas) }

// hasPeers is Node.hasPeers.
func (h *host) hasPeers() bool {
	return !h.isFirst() || h.w.plan.config.replicas > 1 ||
		slices.ContainsFunc(h.snaps.all, func(s *snapshot) bool { return len(allIDs(s.members)) > 1 })
}

// waitsToBeAdded is Group.waitsToBeAdded.
func (g *group) waitsToBeAdded() bool { return g.beginsEmpty() && g.wal.Damage() == nil }

// beginsEmpty is Group.beginsEmpty.
func (g *group) beginsEmpty() bool { return g.wal.LastIndex() == 0 && !g.p.h.isFirst() }

// firstVoters is Group.firstVoters: nobody on a node that joins.
func (g *group) firstVoters() *pb.ConfState {
	if !g.p.h.isFirst() {
		return &pb.ConfState{}
	}
	return g.w.voters()
}

// knownMembers is Group.knownMembers.
func (g *group) knownMembers() *pb.ConfState {
	mark := g.wal.Mark()
	if list := g.p.h.snaps.list(g.id); len(list) > 0 && list[0].index >= mark.Index {
		return list[0].members
	}
	if mark.ConfState != nil {
		return mark.ConfState
	}
	return g.firstVoters()
}

// allIDs is allIDs of node/roster.go.
func allIDs(state *pb.ConfState) []uint64 {
	list := slices.Concat(state.GetVoters(), state.GetLearners(), state.GetVotersOutgoing(),
		state.GetLearnersNext())
	slices.Sort(list)
	return slices.Compact(list)
}

func isMember(state *pb.ConfState, id uint64) bool { return slices.Contains(allIDs(state), id) }

// noteChanges is Group.noteChanges.
func (g *group) noteChanges(a *replica.Append) {
	if a.Snapshot != nil {
		g.conf = a.Snapshot.GetMetadata().GetConfState()
		g.handedIndex = a.Snapshot.GetMetadata().GetIndex()
		g.unsettled = 0
	}
	if len(a.Entries) == 0 {
		return
	}
	last := min(g.unsettled, a.Entries[0].GetIndex()-1)
	for _, e := range a.Entries {
		if e.GetType() != pb.EntryNormal {
			last = e.GetIndex()
		}
	}
	g.settle(last)
}

// settle is memberState.settle.
func (g *group) settle(last uint64) {
	if last <= max(g.handedIndex, g.apply.applied) {
		last = 0
	}
	g.unsettled = last
}

// carryMembers is Group.carryMembers.
func (g *group) carryMembers(rd *replica.Ready) {
	if rd.Apply != nil {
		if n := len(rd.Apply.Members); n > 0 {
			g.conf = rd.Apply.Members[n-1].ConfState
		}
		g.memberships = append(g.memberships, rd.Apply.Members...)
		if n := len(rd.Apply.Entries); n > 0 {
			g.handedIndex = rd.Apply.Entries[n-1].GetIndex()
			g.settle(g.unsettled)
		}
	}
	g.endChanges(rd.Changes)
	if rd.Transferred != nil {
		g.endTransfer(rd.Transferred)
	}
}

// endChanges is Group.endChanges.
func (g *group) endChanges(ends []replica.ChangeEnd) {
	for _, e := range ends {
		err := e.Err
		if err == nil {
			err = g.stopError()
		}
		e.Change.(*change).end(err, e.Unknown)
	}
}

// endChanges is applier.endChanges.
func (a *applier) endChanges(members []replica.Membership, index uint64) []replica.Membership {
	for len(members) > 0 && members[0].Index <= index {
		if c := members[0].Change; c != nil {
			c.(*change).applied(members[0].Index)
		}
		members = members[1:]
	}
	return members
}

// publish is applier.publish with Group.directoryChanged.
func (a *applier) publish() {
	a.applied = a.stage.Index()
	d := a.stage.Directory()
	if d == a.directory {
		return
	}
	before := a.directory
	a.directory = d
	g := a.g
	self := g.p.h.id
	isOne := isMember(d.State, self)
	g.out = len(d.State.GetVoters()) > 0 && !isOne
	if isOne {
		g.gone = false
	}
	for _, id := range allIDs(d.State) {
		g.p.refused[id] = false // Transport.SetPeer
	}
	for _, id := range allIDs(before.State) {
		if id != self && !isMember(d.State, id) {
			g.p.memberLeft(g, id, d)
		}
	}
}

// memberLeft is what the roster does about a member that has left a group: it is told, and when it is
// in no group any more its connections are refused after a while.
func (p *process) memberLeft(g *group, id uint64, d *apply.Directory) {
	g.tellGone(id, d)
	if !p.w.plan.config.refuses {
		return
	}
	p.after(p.w.plan.config.electionTime(), func() {
		for _, other := range p.groups {
			if isMember(other.apply.directory.State, id) {
				return
			}
		}
		p.refused[id] = true
	})
}

func (g *group) tellGone(to uint64, d *apply.Directory) {
	id := g.id
	_ = g.w.net.sendRequest(g.p, to, func(p *process) { p.group(id).hearGone(d) })
}

// hearGone is Group.hearGone.
func (g *group) hearGone(d *apply.Directory) {
	self, own := g.p.h.id, g.apply.directory
	if d.Version <= own.Version || isMember(d.State, self) || !isMember(own.State, self) {
		return
	}
	g.learnGone()
}

func (g *group) learnGone() {
	if !g.gone {
		g.note("gone")
	}
	g.gone = true
}

// outside is Group.outside.
func (g *group) outside() bool { return g.gone || g.out }

// askWhetherGone is steward.askWhetherGone, every half election timeout.
func (p *process) askWhetherGone() {
	for _, g := range p.groups {
		d, self := g.apply.directory, p.h.id
		if g.lead != 0 || !g.begun || g.outside() || !isMember(d.State, self) {
			g.lone = 0
			continue
		}
		if g.lone++; g.lone < loneRounds {
			continue
		}
		others := slices.DeleteFunc(allIDs(d.State), func(id uint64) bool { return id == self })
		if len(others) == 0 {
			continue
		}
		id := g.id
		_ = p.w.net.sendRequest(p, others[p.w.rng.process.IntN(len(others))], func(p *process) {
			if other := p.group(id); other.begun && other.failed == nil {
				other.tellGone(self, other.apply.directory)
			}
		})
	}
	p.after(p.w.plan.config.electionTime()/2, p.askWhetherGone)
}

const loneRounds = 4 // node/identity.go

// refusedBy is handler.PeerRefused for a peer that was removed.
func (p *process) refusedBy(peer uint64) {
	for _, g := range p.groups {
		if g.newcomer || g.begun && g.lead == 0 && isMember(g.apply.directory.State, peer) {
			g.learnGone()
		}
	}
}

// covers is covers of node/snapshots.go.
func covers(state, now *pb.ConfState) bool {
	for _, id := range allIDs(now) {
		if !isMember(state, id) {
			return false
		}
	}
	return true
}

func sameDirectory(a, b *apply.Directory) bool {
	return a.Version == b.Version && slices.Equal(a.Members, b.Members) &&
		isSame(a.State, b.State)
}
