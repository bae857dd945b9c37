package sim_test

import (
	"fmt"
	"math/rand/v2"

	pb "go.etcd.io/raft/v3/raftpb"
)

// sources are the random sources of a run, all from its seed. Each part has its own, so that a
// fault that is left out changes as little as possible elsewhere.
type sources struct {
	plan, network, disk, process, client, identity, check *rand.Rand
}

func newSources(seed uint64) (s sources) {
	for i, r := range []**rand.Rand{&s.plan, &s.network, &s.disk, &s.process, &s.client, &s.identity,
		&s.check} {
		*r = rand.New(rand.NewPCG(seed, uint64(i)+1))
	}
	return s
}

func describe(m *pb.Message) string {
	s := fmt.Sprintf("%v term %d", m.GetType(), m.GetTerm())
	if m.GetIndex() != 0 || m.GetLogTerm() != 0 {
		s += fmt.Sprintf(" at %d/%d", m.GetLogTerm(), m.GetIndex())
	}
	if n := len(m.GetEntries()); n > 0 {
		s += fmt.Sprintf(" entries %d..%d", m.GetEntries()[0].GetIndex(),
			m.GetEntries()[n-1].GetIndex())
	}
	if m.GetCommit() != 0 {
		s += fmt.Sprintf(" commit %d", m.GetCommit())
	}
	if m.GetReject() {
		s += fmt.Sprintf(" reject, hint %d", m.GetRejectHint())
	}
	if m.Snapshot != nil {
		s += fmt.Sprintf(" snapshot %d", m.GetSnapshot().GetMetadata().GetIndex())
	}
	return s
}
