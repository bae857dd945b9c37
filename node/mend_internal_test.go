package node

import (
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// A joint configuration that a peer knows may have been left since, so those that vote behind it
// count: node 1 may have acknowledged what only 4 and 5 have beside it.
func TestEnoughOfAJointConfiguration(t *testing.T) {
	three := &pb.ConfState{Voters: []uint64{1, 2, 3}}
	joint := &pb.ConfState{Voters: []uint64{1, 2, 3, 4, 5}, VotersOutgoing: []uint64{1, 2, 3}}
	five := &pb.ConfState{Voters: []uint64{1, 2, 3, 4, 5}}
	for _, test := range []struct {
		name    string
		members []*pb.ConfState
		answers []uint64
		want    bool
	}{
		{"one of three", []*pb.ConfState{three}, []uint64{2}, false},
		{"two of three", []*pb.ConfState{three}, []uint64{2, 3}, true},
		{"the old half of a joint one", []*pb.ConfState{three, joint}, []uint64{2, 3}, false},
		{"the new half of a joint one", []*pb.ConfState{joint}, []uint64{2, 4, 5}, true},
		{"both halves", []*pb.ConfState{three, joint}, []uint64{2, 3, 4}, true},
		{"behind the joint one", []*pb.ConfState{three, five}, []uint64{2, 3}, false},
		{"itself does not count", []*pb.ConfState{three}, []uint64{1, 2}, false},
		{"nobody known", []*pb.ConfState{{}}, []uint64{2, 3}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			has := map[uint64]bool{}
			for _, id := range test.answers {
				has[id] = true
			}
			got := meetsQuorums(test.members, 1, func(id uint64) bool { return has[id] })
			if got != test.want {
				t.Errorf("enough: %v, want %v", got, test.want)
			}
		})
	}
}

// All who vote beside node 1 have told one and the same configuration with node 1 in it: then there is
// none that it could be part of and nobody tells.
func TestAllVotersTellOneConfiguration(t *testing.T) {
	three := &pb.ConfState{Voters: []uint64{1, 2, 3}}
	again := &pb.ConfState{Voters: []uint64{3, 1, 2}}
	four := &pb.ConfState{Voters: []uint64{1, 2, 3, 4}}
	joint := &pb.ConfState{Voters: []uint64{1, 2, 4}, VotersOutgoing: []uint64{1, 2, 3}}
	learns := &pb.ConfState{Voters: []uint64{2, 3}, Learners: []uint64{1}}
	without := &pb.ConfState{Voters: []uint64{2, 3}}
	alone := &pb.ConfState{Voters: []uint64{1}, Learners: []uint64{2}}
	for _, test := range []struct {
		name string
		told map[uint64]*pb.ConfState
		of   *pb.ConfState
		want bool
	}{
		{"all", map[uint64]*pb.ConfState{2: three, 3: again}, three, true},
		{"one is missing", map[uint64]*pb.ConfState{2: three}, three, false},
		{"one tells of nobody", map[uint64]*pb.ConfState{2: three, 3: nil}, three, false},
		{"one knows another", map[uint64]*pb.ConfState{2: three, 3: four, 4: four}, three, false},
		{"one of another is behind", map[uint64]*pb.ConfState{2: three, 3: four, 4: four}, four, false},
		{"who has left counts no more", map[uint64]*pb.ConfState{2: three, 3: three, 4: four}, three, true},
		{"a joint one needs both halves", map[uint64]*pb.ConfState{2: joint, 4: joint}, joint, false},
		{"both halves", map[uint64]*pb.ConfState{2: joint, 3: joint, 4: joint}, joint, true},
		{"a learner", map[uint64]*pb.ConfState{2: learns, 3: learns}, learns, true},
		{"no member", map[uint64]*pb.ConfState{2: without, 3: without}, without, false},
		{"nobody else votes", map[uint64]*pb.ConfState{2: alone}, alone, false},
		{"nobody known", map[uint64]*pb.ConfState{2: nil}, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			told := map[uint64]position{}
			for id, members := range test.told {
				told[id] = position{term: 2, last: 9, members: members}
			}
			if got := allTell(told, test.of, 1); got != test.want {
				t.Errorf("all tell: %v, want %v", got, test.want)
			}
		})
	}
}

// While its log may have a change that a replica has not made, it does not tell who the members are.
func TestChangesInTheLogAreUnsettled(t *testing.T) {
	g := &Group{}
	entries := func(first uint64, types ...pb.EntryType) {
		a := &replica.Append{}
		for i, kind := range types {
			a.Entries = append(a.Entries, &pb.Entry{Index: new(first + uint64(i)), Type: &kind})
		}
		g.noteChanges(a)
	}
	handOut := func(index uint64) {
		g.carryMembers(&replica.Ready{Apply: &replica.Apply{
			Entries: []*pb.Entry{{Index: &index}}}})
	}
	const normal, change = pb.EntryNormal, pb.EntryConfChangeV2
	for _, step := range []struct {
		name string
		do   func()
		want uint64
	}{
		{"a log with entries that are not known", func() { g.members.settle(5) }, 5},
		{"some are made", func() { handOut(4) }, 5},
		{"and all", func() { handOut(5) }, 0},
		{"entries", func() { entries(6, normal, normal) }, 0},
		{"a change", func() { entries(8, normal, change, normal) }, 9},
		{"others take its place", func() { entries(9, normal) }, 8},
		{"what is before them is made", func() { handOut(8) }, 0},
		{"another change", func() { entries(10, change) }, 10},
		{"is overwritten with all behind what is made", func() { entries(9, normal) }, 0},
		{"one more", func() { entries(10, change) }, 10},
		{"a snapshot takes the place of the log", func() {
			g.noteChanges(&replica.Append{Snapshot: &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
				Index: new(uint64(20)), ConfState: &pb.ConfState{Voters: []uint64{1}}}}})
		}, 0},
		{"and entries follow", func() { entries(21, normal, change) }, 22},
	} {
		step.do()
		if got := g.members.unsettled.Load(); got != step.want {
			t.Errorf("%s: unsettled %d, want %d", step.name, got, step.want)
		}
	}
}

// An answer that comes in while a node decides does not count for that decision: it may be the last one
// that was missing, and tell that the cluster has begun.
func TestAnswerThatComesInMeanwhileIsNotCounted(t *testing.T) {
	n := openAlone(t)
	n.options.Members = append(n.options.Members, Member{ID: 2}, Member{ID: 3})
	g := n.newGroup(1, blank{})
	g.newcomer.Store(true)
	m := newMender(g)
	early := map[uint64]position{2: {term: 1, last: 1}}
	m.mu.terms = map[uint64]position{2: early[2], 3: {term: 5, last: 9}}
	if fence, ok := m.verdict(early, m.knowsBegun(early)); ok {
		t.Errorf("starts behind term %d on the answer of node 2 alone", fence)
	}
	if fence, ok := m.verdict(m.answers(), m.knowsBegun(m.answers())); !ok || fence != 5 {
		t.Errorf("starts (%v) behind term %d, want behind term 5", ok, fence)
	}
}
