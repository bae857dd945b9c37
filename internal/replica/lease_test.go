package replica_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// timeline is a cluster whose nodes have clocks of their own: messages take time, ticks come at each
// node's own moments and at its own speed. It goes on in steps of a millisecond.
type timeline struct {
	*cluster
	rng    *rand.Rand
	lease  time.Duration
	now    int64 // ms
	speed  map[uint64]float64
	ticked map[uint64]float64 // when the last tick was due on the node's clock, ms
	flying []flight
	broken map[[2]uint64]bool // links, from the lower id to the higher
}

type flight struct {
	at int64
	m  *pb.Message
}

const tickMillis = 100

func newTimeline(t *testing.T, rng *rand.Rand, lease time.Duration) *timeline {
	l := &timeline{cluster: newCluster(t), rng: rng, lease: lease, speed: map[uint64]float64{},
		ticked: map[uint64]float64{}, broken: map[[2]uint64]bool{}}
	for id := range l.cores {
		l.configure = func(c *replica.Config) { c.Lease = lease }
		l.begin(id, 1, 2, 3)
		l.speed[id] = 0.95 + 0.1*rng.Float64()
		l.ticked[id] = tickMillis * rng.Float64()
	}
	return l
}

// clock is what the node's clock shows, in ms.
func (l *timeline) clock(id uint64) float64 { return float64(l.now) * l.speed[id] }

// step lets a millisecond pass.
func (l *timeline) step() {
	l.now++
	for id, core := range l.cores {
		for l.clock(id) >= l.ticked[id]+tickMillis {
			l.ticked[id] += tickMillis
			core.Tick()
		}
	}
	kept := l.flying[:0]
	for _, f := range l.flying {
		if f.at > l.now {
			kept = append(kept, f)
		} else if l.connected(f.m.GetFrom(), f.m.GetTo()) {
			must(l.t, l.cores[f.m.GetTo()].Step(f.m.GetFrom(), f.m))
		}
	}
	l.flying = kept
	for id := range l.cores {
		l.collect(id)
	}
}

func (l *timeline) connected(a, b uint64) bool {
	return !l.cut[a] && !l.cut[b] && !l.broken[[2]uint64{min(a, b), max(a, b)}]
}

// collect carries what a core has to do.
func (l *timeline) collect(id uint64) {
	core := l.cores[id]
	for core.HasReady() {
		l.carry(id, core.Ready(l.now, int64(l.clock(id)*float64(time.Millisecond))))
	}
	for _, m := range l.network {
		l.flying = append(l.flying, flight{l.now + 1 + l.rng.Int64N(5), m})
	}
	l.network = nil
}

// leader waits for a leader among the nodes that are connected.
func (l *timeline) leader() uint64 {
	l.t.Helper()
	for range 60_000 {
		l.step()
		for id, core := range l.cores {
			if s := core.Status(); !l.cut[id] && s.Role == raft.StateLeader {
				return id
			}
		}
	}
	l.t.Fatal("no leader")
	return 0
}

// write replicates a command through a node and waits until it is acknowledged; 0 when the node does
// not lead any more.
func (l *timeline) write(id uint64) (index uint64) {
	p := &command{data: "w", local: true}
	l.cores[id].Propose(proposals(p))
	for l.done[p] == 0 && l.lost[p] == nil {
		l.step()
	}
	return l.done[p]
}

// isolate is one case: the leader is cut off at a random moment, and reads go on there while the
// others elect and write. It returns how many reads the old leader answered meanwhile, and how many
// of the answers were older than what had been acknowledged.
func (l *timeline) isolate(before func(old uint64)) (served, stale int) {
	old := l.leader()
	l.write(old)
	l.pass(old, l.rng.IntN(1500))
	before(old)
	l.cut[old] = true
	var writing *command
	floor := uint64(0)
	for end := l.now + 6000; l.now < end; {
		l.step()
		if floor != 0 && l.cores[old].Status().Role != raft.StateLeader {
			break
		}
		if index, ok := l.ask(old); ok {
			if served++; index < floor {
				stale++
			}
		}
		for id, core := range l.cores {
			if id != old && writing == nil && core.Status().Role == raft.StateLeader {
				writing = &command{data: "new", local: true}
				core.Propose(proposals(writing))
				l.collect(id)
			}
		}
		if writing != nil && l.lost[writing] != nil {
			writing = nil
		}
		if writing != nil && l.done[writing] != 0 {
			floor = l.done[writing]
		}
	}
	return served, stale
}

// ask has a node answer a read under its lease, if it can at once.
func (l *timeline) ask(id uint64) (index uint64, ok bool) {
	r := &read{freshness: replica.Freshness{Leased: true}}
	l.cores[id].Read([]replica.Read{r})
	l.collect(id)
	index, ok = l.reads[r]
	return index, ok
}

// pass lets time pass while a node is asked.
func (l *timeline) pass(id uint64, millis int) {
	for range millis {
		l.step()
		l.ask(id)
	}
}

// impatient breaks the link of one follower to the leader, so that it asks the other one for its vote,
// which still hears the leader.
func (l *timeline) impatient(old uint64) (candidate, follower uint64) {
	candidate, follower = 1+old%3, 1+(old+1)%3
	l.broken[[2]uint64{min(old, candidate), max(old, candidate)}] = true
	l.pass(old, 1000+l.rng.IntN(3000))
	return candidate, follower
}

// leaseCases are what happens right before the leader is cut off.
var leaseCases = map[string]func(l *timeline, old uint64){
	"cut off": func(*timeline, uint64) {},
	"cut off while the follower that hears of it restarts": func(l *timeline, old uint64) {
		_, follower := l.impatient(old)
		l.restart(follower)
	},
	"cut off while a transfer is on its way": func(l *timeline, old uint64) {
		must(l.t, l.cores[old].Transfer(1+old%3))
		l.pass(old, 1+l.rng.IntN(8))
	},
	"cut off when a candidate has told a follower a higher term": func(l *timeline, old uint64) {
		candidate, follower := l.impatient(old)
		must(l.t, l.cores[follower].Step(candidate, &pb.Message{Type: pb.MsgPreVoteResp.Enum(),
			From: &candidate, To: &follower, Reject: new(true),
			Term: new(l.cores[follower].Status().Term + 1)}))
	},
}

// TestNoStaleReadsUnderTheLease cuts the leader off at 300 random phases. Raft's own lease answers with
// stale data in most of such cases.
func TestNoStaleReadsUnderTheLease(t *testing.T) {
	const tick = tickMillis * time.Millisecond
	lease := 8 * tick * 9 / 10
	for name, before := range leaseCases {
		t.Run(name, func(t *testing.T) {
			served, stale := 0, 0
			for seed := range uint64(75) {
				l := newTimeline(t, rand.New(rand.NewPCG(seed, 1)), lease)
				s, old := l.isolate(func(old uint64) { before(l, old) })
				served, stale = served+s, stale+old
			}
			if stale != 0 {
				t.Errorf("%d of %d reads were stale", stale, served)
			}
			if name == "cut off" && served == 0 {
				t.Error("the lease answered nothing")
			}
		})
	}
}

// With a lease that is longer than what the others promise, the same cases do find stale reads.
func TestLeaseCasesFindStaleReads(t *testing.T) {
	for seed := range uint64(75) {
		l := newTimeline(t, rand.New(rand.NewPCG(seed, 1)), 3*time.Second)
		if _, stale := l.isolate(func(uint64) {}); stale > 0 {
			return
		}
	}
	t.Error("no stale read with a lease of three election timeouts")
}
