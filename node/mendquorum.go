package node

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	pb "go.etcd.io/raft/v3/raftpb"
)

// Whom a group that may have forgotten something must have asked.
//
// Such a node, call it X, may have acknowledged entries and given votes that it does not remember. The
// fence (internal/replica/fence.go) is to be above every term in which a leader may have been elected
// or may have committed something with X's help, because only what a leader of a later term has
// committed lifts it: that leader was elected without X. X takes part in nothing while it asks, and
// each answer has the highest term that the peer knew after X's loss. So it is enough when each quorum
// that X was part of has another member among those who have answered, and remember: the answer of a first
// member that has not begun counts for nothing here (position.hasBegun).
//
// A quorum belongs to a configuration: C0, C1, … of the group, each made by an entry that is committed
// under the one before it. A peer answers only when it has made every change in its log, committed or
// not as far as it knows, so it never tells an older configuration than the last one it has helped to
// commit. Either of these will do:
//
//  1. X knows a configuration from its newest snapshot or mark, and those who have answered meet every
//     quorum of it and of each one that they have told. Whatever X did after its snapshot it did under
//     that configuration or a later one; the change to the next one was committed by a quorum that has
//     one of the peers that answered, so that one has told the next one or another behind it.
//
//  2. All voters of a configuration but X have answered, and all with this one, C; and X is a member.
//     The change to the next one needs one of them in its quorum, so there was none before X lost its
//     log. Under C everybody who votes has been asked. A quorum of the configuration before C has a
//     voter of C in common with each quorum of C, also with one without X. Only of two voters, of whom X
//     is one, there is none without X; then who leads without X was elected under the configuration
//     before, in a term above that of the voter who has answered only if that one has elected it since.
//     Under one that is older still, A, nobody was elected in a term above that in which C was
//     committed. The change that ended the one behind A was committed by a majority that has a voter in
//     common with each quorum of A. That voter votes for no log without the change from then on, and
//     whoever has it was told with it that A is over, and does not campaign under A. And whoever tells C
//     tells a term at least as high.
//
// The second needs no knowledge of X, which may have joined and lost the snapshot it was sent, and
// nobody who has left, who may be gone for good. It waits for all voters; one that does not come back
// is replaced, and from then on the others tell a configuration without it. What one stale peer tells
// proves nothing under either: alone it makes the first ask for more, and the second asks the voters of
// its configuration, who deny it. A group of one voter cannot be told by anybody.

// enough reports whether those that has says yes to are so many that the group may go on.
func (m *mender) enough(told map[uint64]position, has func(peer uint64) bool) bool {
	self := m.group.node.options.ID
	for _, p := range told {
		if allTell(told, p.members, self) && !slices.ContainsFunc(othersWhoVote(p.members, self),
			func(id uint64) bool { return !has(id) }) {
			return true
		}
	}
	return meetsQuorums(m.configurations(told), self, has)
}

// meetsQuorums reports whether those that has says yes to meet each quorum of these configurations
// that self is part of. A joint one needs a majority of each half, and may have been left since
// without this peer knowing: whoever meets the half that stays meets the quorums of both. One without
// voters is not known.
func meetsQuorums(configurations []*pb.ConfState, self uint64, has func(peer uint64) bool) bool {
	for _, c := range configurations {
		voters, n := c.GetVoters(), 0
		need := len(voters) - (len(voters)/2 + 1) + 1
		for _, id := range voters {
			if id != self && has(id) {
				n++
			}
		}
		if len(voters) == 0 || n < need {
			return false
		}
	}
	return true
}

// allTell reports whether self is a member of a configuration, others vote in it, and all of these have
// told just this one.
func allTell(told map[uint64]position, c *pb.ConfState, self uint64) bool {
	voters := othersWhoVote(c, self)
	return isMember(c, self) && len(voters) > 0 &&
		!slices.ContainsFunc(voters, func(id uint64) bool { return !sameState(told[id].members, c) })
}

// othersWhoVote returns the voters of both halves of a configuration but for self.
func othersWhoVote(c *pb.ConfState, self uint64) []uint64 {
	list := slices.Concat(c.GetVoters(), c.GetVotersOutgoing())
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(id uint64) bool { return id == self })
}

// sameState compares configurations, whatever the order of their lists.
func sameState(a, b *pb.ConfState) bool {
	for _, list := range []func(*pb.ConfState) []uint64{(*pb.ConfState).GetVoters,
		(*pb.ConfState).GetLearners, (*pb.ConfState).GetVotersOutgoing,
		(*pb.ConfState).GetLearnersNext} {
		if !slices.Equal(slices.Sorted(slices.Values(list(a))), slices.Sorted(slices.Values(list(b)))) {
			return false
		}
	}
	return true
}

// configurations are that which this node knows by itself, and those of the answers.
func (m *mender) configurations(told map[uint64]position) []*pb.ConfState {
	list := []*pb.ConfState{m.group.knownMembers()}
	for _, p := range told {
		if len(p.members.GetVoters()) > 0 {
			list = append(list, p.members)
		}
	}
	return list
}

// missing returns the voters, of all configurations that are known, that have told nothing. To one that
// knows that the cluster has begun those tell nothing who have not begun.
func (m *mender) missing(told map[uint64]position, begun bool) (list []uint64) {
	asksIfNew := m.group.newcomer.Load() && !begun
	for _, c := range m.configurations(told) {
		list = append(list, othersWhoVote(c, m.group.node.options.ID)...)
	}
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(id uint64) bool {
		p, ok := told[id]
		return ok && (asksIfNew || p.hasBegun())
	})
}

// tellMissing writes into the log who has not answered, whenever that has changed.
func (m *mender) tellMissing(tick int) {
	if tick == 0 || tick%askAgainTicks != 0 {
		return
	}
	answers := m.answers()
	if missing := m.missing(answers, m.knowsBegun(answers)); !slices.Equal(missing, m.said) {
		m.said = missing
		level := slog.LevelWarn
		if m.group.newcomer.Load() {
			level = slog.LevelInfo // as a rule the cluster starts for the first time
		}
		m.group.log.Log(context.Background(), level, "the group waits for members to tell how far they are",
			"answered", slices.Sorted(maps.Keys(answers)), "missing", missing)
	}
}

// waitsFor says, for Ready, who has not answered and what to do about it.
func (m *mender) waitsFor() string {
	n := m.group.node
	answers := m.answers()
	missing, answered := m.missing(answers, m.knowsBegun(answers)), len(answers)
	switch {
	case len(missing) > 0:
		ids := strings.Trim(fmt.Sprint(missing), "[]")
		if answered == 0 {
			return " (none of " + ids + " has answered)"
		}
		return fmt.Sprintf(" (no answer from %s; when these do not come back: stop this node, start it with "+
			"an empty directory, with join = true and an id that was never used, and run: %s)", ids,
			n.roster.replacingSelf())
	case answered == 0:
		return " (nobody has answered)"
	}
	return ""
}
