package replica_test

import (
	"io"
	"log"
	"testing"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// benchProposal is the cheapest proposal there can be: what is measured is the core.
type benchProposal struct{ data []byte }

func (p *benchProposal) Command() replica.Command { return replica.Command{Data: p.data} }
func (p *benchProposal) Take() bool               { return true }
func (p *benchProposal) Release()                 {}
func (p *benchProposal) Withdrawn() bool          { return false }
func (p *benchProposal) Local() bool              { return false }

// benchLeader is the leader of three whose followers answer at once.
type benchLeader struct {
	core  *replica.Replica
	store *raft.MemoryStorage
	acked uint64 // last index the followers have acknowledged
}

func newBenchLeader(b *testing.B) *benchLeader {
	s := raft.NewMemoryStorage()
	check := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	check(s.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)),
		Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: []uint64{1, 2, 3}}}}))
	check(s.SetHardState(&pb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)),
		Commit: new(uint64(1))}))
	core, err := replica.New(replica.Config{Group: 1, ID: 1, ElectionTicks: 10, HeartbeatTicks: 1,
		Storage: s, Applied: 1, Begins: true, EntryBytes: 1 << 20, InflightBytes: 64 << 20,
		AppendsAhead: 4,
		Logger:       &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}})
	check(err)
	l := &benchLeader{core: core, store: s}
	check(core.Campaign())
	l.run(b)
	if core.Status().Leader != 1 {
		b.Fatal("not elected")
	}
	return l
}

// run carries effects until nothing moves.
func (l *benchLeader) run(b *testing.B) {
	for l.core.HasReady() {
		rd := l.core.Ready(1, 1)
		if a := rd.Append; a != nil {
			if err := l.store.Append(a.Entries); err != nil {
				b.Fatal(err)
			}
			for _, m := range a.Responses {
				if m.GetTo() == 1 {
					l.core.Ack(m)
				}
			}
			if len(a.Entries) > 0 {
				l.core.Appended()
			}
		}
		for _, m := range rd.Messages {
			l.answer(b, m)
		}
		if rd.Apply != nil {
			for _, m := range rd.Apply.Done {
				l.core.Ack(m)
			}
		}
	}
}

func (l *benchLeader) answer(b *testing.B, m *pb.Message) {
	reply := &pb.Message{From: m.To, To: new(uint64(1)), Term: m.Term}
	switch m.GetType() {
	case pb.MsgPreVote:
		reply.Type = pb.MsgPreVoteResp.Enum()
	case pb.MsgVote:
		reply.Type = pb.MsgVoteResp.Enum()
	case pb.MsgApp:
		reply.Type = pb.MsgAppResp.Enum()
		reply.Index = new(m.GetIndex() + uint64(len(m.GetEntries())))
	case pb.MsgHeartbeat:
		reply.Type = pb.MsgHeartbeatResp.Enum()
	default:
		return
	}
	if err := l.core.Step(m.GetTo(), reply); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLeaderPacked is the cost of the core for a command on the leader of three, 64 commands an
// entry: packing, raft's append, both followers' acknowledgements, commit and hand-out.
func BenchmarkLeaderPacked(b *testing.B) {
	l := newBenchLeader(b)
	const perEntry = 64
	proposals := make([]benchProposal, perEntry)
	for i := range proposals {
		proposals[i].data = make([]byte, 16)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n++; n%perEntry != 0 {
			continue
		}
		batch := make([]replica.Proposal, perEntry)
		for i := range batch {
			batch[i] = &proposals[i]
		}
		l.core.Propose(batch)
		l.run(b)
		if n%(perEntry*1024) == 0 {
			if err := l.store.Compact(l.core.Status().Commit - 1); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkIdleFollowerTick is the cost of a tick of a replica that does not lead, between two messages
// of the leader. It is a learner, which never stands for election; the way is the same.
func BenchmarkIdleFollowerTick(b *testing.B) {
	s := raft.NewMemoryStorage()
	if err := s.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)),
		Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: []uint64{1, 2, 3},
			Learners: []uint64{4}}}}); err != nil {
		b.Fatal(err)
	}
	core, err := replica.New(replica.Config{Group: 1, ID: 4, ElectionTicks: 10, HeartbeatTicks: 1,
		Storage: s, Applied: 1, EntryBytes: 1 << 20, InflightBytes: 64 << 20, AppendsAhead: 4,
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}})
	if err != nil {
		b.Fatal(err)
	}
	for core.HasReady() {
		core.Ready(1, 1)
	}
	b.ReportAllocs()
	for b.Loop() {
		core.Tick()
		if core.HasReady() {
			b.Fatal("an idle tick has an effect")
		}
	}
}

// BenchmarkIdleTick is the cost of a tick of a leader in whose group nothing happens: a heartbeat to
// each follower, and their answers.
func BenchmarkIdleTick(b *testing.B) {
	l := newBenchLeader(b)
	b.ReportAllocs()
	for b.Loop() {
		l.core.Tick()
		l.run(b)
	}
}
