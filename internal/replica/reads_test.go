package replica_test

import (
	"io"
	"log"
	"testing"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// TestSingleVoterReadsWhatItHadAcknowledged restarts a group of one voter whose last commit index
// was not synced, which is allowed, and reads at the first moment it leads.
func TestSingleVoterReadsWhatItHadAcknowledged(t *testing.T) {
	c := newCluster(t)
	s := raft.NewMemoryStorage()
	must(t, s.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)),
		Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: []uint64{1}}}}))
	must(t, s.Append([]*pb.Entry{{Type: pb.EntryNormal.Enum(), Index: new(uint64(2)),
		Term: new(uint64(1))}}))
	must(t, s.SetHardState(&pb.HardState{Term: new(uint64(1)), Vote: new(uint64(1)),
		Commit: new(uint64(1))}))
	core, err := replica.New(replica.Config{Group: 1, ID: 1, ElectionTicks: 10, HeartbeatTicks: 1,
		Storage: s, Applied: 1, Begins: true, EntryBytes: 64, InflightBytes: 1 << 20, AppendsAhead: 4,
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}})
	must(t, err)
	c.cores, c.stores[1] = map[uint64]*replica.Replica{1: core}, s

	early := &read{}
	core.Read([]replica.Read{early})
	must(t, core.Campaign())
	for range 100 {
		for core.HasReady() {
			c.carry(1, core.Ready(0, 0))
		}
	}
	if index, ok := c.reads[early]; !ok || index < 2 {
		t.Fatalf("the read is confirmed at index %d (%v), want at least 2", index, ok)
	}
}
