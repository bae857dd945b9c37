package sim_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/statemachine"
	"github.com/connectraft/connect/wal"
)

// mutant is a fault of the product that the simulation puts in on purpose. Only this package can:
// each is a place in the twins, or in what they give to the cores and the log.
type mutant int

const (
	noMutant mutant = iota
	skipSync
	forgetVote
	forgetTerm
	respondBeforeSync
	countBeforeSync
	forgetTruncation
	skipRestore
	applyTwice
	localTime
	readBeforeApply
	readWithoutRound
	partialSnapshot
	retryUnknown
	ignoreFence
	forgetSnapshotReport
	skipDirSync
	staleReadRound
	smallQuorum
	compactEarly
	forgetClock
	unknownAsNotApplied
	amnesia
	anyCluster
	ignoreSessions
	forgetSessions
	longLease
	mutants
)

func (m mutant) String() string {
	return [...]string{"none", "skip the sync", "vote not persisted", "term not persisted",
		"responses before the sync", "own append counted before the sync",
		"truncation after a conflict forgotten",
		"restore skipped", "apply twice", "local time in the state machine",
		"reads before the index is applied", "reads without a round", "snapshot lacks a part",
		"unknown commands tried again", "fence ignored", "end of a snapshot transfer not reported",
		"skip the directory sync", "answer of an earlier read round accepted", "quorum too small",
		"log truncated before the snapshot is durable", "replicated time missing in snapshots",
		"unknown told as not applied", "wiped node under its old identity",
		"log of another cluster accepted", "sessions ignored", "sessions missing in snapshots",
		"lease longer than the promise",
	}[m]
}

func (w *world) is(m mutant) bool { return w.mutant == m }

// mutateUpdates changes what the log is given.
func (w *world) mutateUpdates(a *appender) {
	for i := range a.updates {
		u := &a.updates[i]
		switch {
		case w.is(forgetVote):
			u.State = &wal.State{Term: u.State.Term, Commit: u.State.Commit}
		case w.is(forgetTerm):
			u.State = nil
		case w.is(forgetTruncation) && len(u.Entries) > 0 && u.Mark == nil:
			last := a.p.wal.Group(u.Group).LastIndex()
			if n := u.Entries[0].GetIndex(); n <= last {
				u.Entries = u.Entries[min(uint64(len(u.Entries)), last+1-n):]
			}
		}
	}
	a.updates = slices.DeleteFunc(a.updates, func(u wal.Update) bool {
		return u.State == nil && u.Mark == nil && len(u.Entries) == 0
	})
}

// mutateSnapshot changes a snapshot that was cut.
func (w *world) mutateSnapshot(s *snapshot) {
	if w.is(forgetClock) {
		s.clock = 0
	}
}

// mutatedMachine is a machine that a mutant of the apply stage misuses.
type mutatedMachine struct {
	*machine
	w *world
}

func (a *applier) mutateMachine() statemachine.Machine {
	if a.g.w.is(applyTwice) || a.g.w.is(partialSnapshot) {
		return mutatedMachine{a.machine, a.g.w}
	}
	return a.machine
}

func (m mutatedMachine) Apply(meta statemachine.Meta, command []byte) ([]byte, error) {
	if m.w.is(applyTwice) && m.w.rng.process.IntN(20) == 0 {
		_, _ = m.machine.Apply(meta, command)
	}
	return m.machine.Apply(meta, command)
}

func (m mutatedMachine) Snapshot(w io.Writer) error {
	var body bytes.Buffer
	if err := m.machine.Snapshot(&body); err != nil {
		return err
	}
	if m.w.is(partialSnapshot) {
		body.Truncate(16)
	}
	_, err := w.Write(body.Bytes())
	return err
}

// mutateTime stamps a packed entry with this node's own clock.
func (a *applier) mutateTime(e *pb.Entry) *pb.Entry {
	entry, err := replica.Unpack(e.GetData())
	if !a.g.w.is(localTime) || e.GetType() != pb.EntryNormal || err != nil {
		return e
	}
	data := slices.Clone(e.GetData())
	clock := max(entry.Clock, a.g.p.h.local())
	binary.LittleEndian.PutUint64(data[1:], uint64(clock)) // behind the format
	return &pb.Entry{Type: e.Type, Index: e.Index, Term: e.Term, Data: data}
}

// mutateWorld sets up what a mutant needs.
func (w *world) mutateWorld() {
	for _, h := range w.hosts {
		h.files.lies = w.is(skipSync)
		h.files.dirLies = w.is(skipDirSync)
	}
}

// mutateReads gives a round of reads the index of the round before it.
func (g *group) mutateReads(rounds []replica.ReadRound) {
	if !g.w.is(staleReadRound) {
		return
	}
	for i := range rounds {
		rounds[i].Index, g.lastRound = min(rounds[i].Index, g.lastRound), rounds[i].Index
	}
}

// runs is the shape of the runs that are to catch a mutant.
func (m mutant) runs() shape {
	switch m {
	case forgetTruncation:
		return under(faultIsolate, faultKill).with(shortElections, load(4, 0, 20), pace(500, 500))
	case ignoreFence:
		return under(faultFlip, faultFlip, faultIsolate, faultOneWay, faultKill).with(
			load(4, 20, 100), pace(500, 300))
	case amnesia:
		return under(faultWipe, faultIsolate, faultOneWay, faultKill)
	case retryUnknown:
		return under(faultIsolate, faultSplit, faultOneWay, faultPause)
	case longLease:
		return under(faultIsolate, faultOneWay).with(shortElections, leased(4, 20), pace(500, 600))
	case forgetClock:
		return under(faultJump, faultKill).with(smallSnapshots, load(4, 20, 20), pace(500, 300))
	case forgetSnapshotReport:
		// Whoever joins needs a snapshot, and nobody else is elected meanwhile.
		return under(faultChange, faultIsolate).with(smallSnapshots, cluster(3, 4, 4),
			elections(200, 10), load(2, 20, 100), pace(300, 150))
	}
	return shape{}
}

// lease is that of the plan.
func (g *group) lease() time.Duration {
	lease := g.w.plan.config.lease()
	if g.w.is(longLease) {
		lease *= 3
	}
	return lease
}

// catchSeeds is how many seeds a mutant may survive.
const catchSeeds = 500

// TestMutantsAreCaught puts each mutant into the product and expects a violation. A mutant that
// lives means that the simulation does not see what it should.
func TestMutantsAreCaught(t *testing.T) {
	for m := noMutant + 1; m < mutants; m++ {
		t.Run(m.String(), func(t *testing.T) {
			for seed := uint64(1); seed <= catchSeeds; seed++ {
				p := m.runs().draw(seed)
				r := simulate(t, seed, p, m, nil)
				if r.violation == nil {
					continue
				}
				if sound := simulate(t, seed, p, noMutant, nil); sound.violation != nil {
					t.Fatalf("seed %d has a violation without the mutant: %v", seed, sound.violation)
				}
				t.Logf("caught by seed %d: %v", seed, r.violation)
				return
			}
			t.Errorf("no violation in %d seeds", catchSeeds)
		})
	}
}
