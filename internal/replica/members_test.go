package replica_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/internal/replica"
)

// change is a change of the membership of the tests: "v4 r1" makes node 4 a voter and removes node 1.
type change struct {
	what    string
	version uint64
}

func (c *change) Version() uint64 { return c.version }

func (c *change) ConfChange() *pb.ConfChangeV2 {
	changes, err := pb.ConfChangesFromString(c.what)
	if err != nil {
		panic(err)
	}
	return &pb.ConfChangeV2{Changes: changes}
}

// ends returns the ends of a change: its membership on the node, or its refusal.
func (c *cluster) end(id uint64, of *change) (members *pb.ConfState, err error, ends int) {
	for _, m := range c.members[id] {
		if m.Change == replica.Change(of) {
			members, ends = m.ConfState, ends+1
		}
	}
	for _, e := range c.changes {
		if e.Change == replica.Change(of) {
			err, ends = e.Err, ends+1
		}
	}
	return members, err, ends
}

func (c *cluster) change(id uint64, what string, version uint64) (*pb.ConfState, error) {
	c.t.Helper()
	asked := &change{what: what, version: version}
	c.cores[id].ChangeMembers(asked)
	for range 12 {
		c.settle()
		if members, err, ends := c.end(id, asked); ends == 1 {
			return members, err
		} else if ends > 1 {
			c.t.Fatalf("the change %q ended %d times", what, ends)
		}
		c.tick()
	}
	c.t.Fatalf("the change %q has no end", what)
	return nil, nil
}

func (c *cluster) tick() {
	for _, core := range c.cores {
		core.Tick()
	}
	c.settle()
}

func TestMemberIsAddedAsLearnerThenPromoted(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.begin(4)
	members, err := c.change(1, "l4", 1)
	must(t, err)
	if got := fmt.Sprint(members.GetLearners()); got != "[4]" {
		t.Fatalf("learners %s, want [4]", got)
	}
	c.tick()
	for range 3 {
		c.tick()
	}
	last := c.cores[1].Status().LastIndex
	for _, p := range c.cores[1].Progress() {
		if p.Match != last || p.Learner != (p.ID == 4) || !p.Active {
			t.Errorf("progress %+v, want all at %d", p, last)
		}
	}
	if s := c.cores[4].Status(); !s.Learner || s.Version != c.cores[1].Status().Version {
		t.Errorf("the new member's status: %+v", s)
	}
	members, err = c.change(1, "v4 r2", c.cores[1].Status().Version)
	must(t, err)
	if len(members.GetVotersOutgoing()) == 0 {
		t.Errorf("two changes at once went past joint consensus: %v", members)
	}
	c.tick()
	for _, id := range []uint64{1, 3, 4} {
		m := c.cores[id].Members()
		if fmt.Sprint(m.GetVoters()) != "[1 3 4]" || len(m.GetVotersOutgoing()) != 0 {
			t.Errorf("node %d has the members %v", id, m)
		}
	}
}

func TestChangesThatAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		what    string
		version uint64
		want    error
	}{
		"an older version":            {"l4", 77, replica.ErrConflict},
		"too many that are not there": {"v4 v5 v6", 0, replica.ErrNoQuorum},
		"no change":                   {"", 0, replica.ErrInvalidChange},
		"no voters":                   {"r1 r2 r3", 0, replica.ErrInvalidChange},
		"no id":                       {"v0", 0, replica.ErrInvalidChange},
		"the leader":                  {"r1", 0, replica.ErrTransferFirst},
		"the leader's vote":           {"l1", 0, replica.ErrTransferFirst},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.elect(1)
			before := c.cores[1].Status().LastIndex
			if _, err := c.change(1, test.what, test.version); !errors.Is(err, test.want) {
				t.Errorf("ended with %v, want %v", err, test.want)
			}
			if got := c.cores[1].Status().LastIndex; got != before {
				t.Errorf("the refused change is in the log: last index %d, was %d", got, before)
			}
		})
	}
	c := newCluster(t)
	c.elect(1)
	if _, err := c.change(2, "l4", 0); !errors.Is(err, replica.ErrNotLeader) {
		t.Errorf("a follower ended the change with %v", err)
	}
}

// With one of three members silent, to remove the other one would leave a majority of one that
// answers and one that does not: from the moment on at which it falls silent, not only when the
// leader has missed it.
func TestChangeThatLosesQuorumIsRefused(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.tick()
	c.cut[3] = true
	for _, later := range []int{0, 1, 25} {
		for range later {
			c.tick()
		}
		_, err := c.change(1, "r2", 0)
		if !errors.Is(err, replica.ErrNoQuorum) || !strings.Contains(err.Error(), "silent: [3]") {
			t.Errorf("the removal of the member that answers ended with %v", err)
		}
	}
	members, err := c.change(1, "r3", 0)
	must(t, err)
	if got := fmt.Sprint(members.GetVoters()); got != "[1 2]" {
		t.Errorf("voters %s", got)
	}
}

// Of two members that the change needs each has answered once, and they were never there together.
func TestOldAnswersToAPollDoNotCount(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	asked := &change{what: "v4"}
	c.cut[3] = true
	c.cores[1].ChangeMembers(asked)
	c.settle()
	c.cut[2] = true
	for range 3 {
		c.cores[1].Tick()
		c.settle()
	}
	c.cut[3] = false
	for range 10 {
		c.cores[1].Tick()
		c.settle()
	}
	_, err, ends := c.end(1, asked)
	if ends != 1 || !errors.Is(err, replica.ErrNoQuorum) || !strings.Contains(err.Error(), "silent: [2 4]") {
		t.Errorf("the change ended %d times, with %v", ends, err)
	}
	c.cut[2] = false
	if _, err := c.change(1, "v4", 0); err != nil {
		t.Errorf("with both of them: %v", err)
	}
}

// isAppend is for cluster.hold: the members answer polls, and entries are lost.
func isAppend(m *pb.Message) bool { return m.GetType() == pb.MsgApp }

func TestSecondChangeWaitsForTheFirst(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.hold = isAppend
	first, second := &change{what: "l4"}, &change{what: "l5"}
	c.cores[1].ChangeMembers(first)
	c.settle()
	c.cores[1].ChangeMembers(second)
	third := &change{what: "l6"}
	c.cores[1].ChangeMembers(third)
	c.settle()
	if _, err, _ := c.end(1, third); !errors.Is(err, replica.ErrChangePending) {
		t.Errorf("the third change ended with %v", err)
	}
	if _, _, ends := c.end(1, second); ends != 0 {
		t.Error("the second change has ended while the first is on its way")
	}
	c.hold = nil
	c.tick()
	c.tick()
	for _, asked := range []*change{first, second} {
		if members, err, ends := c.end(1, asked); members == nil || ends != 1 {
			t.Errorf("change %q: %v %v, %d ends", asked.what, members, err, ends)
		}
	}
}

// A deposed leader's change ends like its commands: lost when another entry is committed in its place.
func TestOverwrittenChangeIsLost(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.hold = isAppend
	lost := &change{what: "l4"}
	c.cores[1].ChangeMembers(lost)
	c.settle()
	c.hold, c.cut[1] = nil, true
	c.electOneOf(2, 3)
	if _, _, ends := c.end(1, lost); ends != 0 {
		t.Fatal("the change has ended while its fate is open")
	}
	c.cut[1] = false
	for range 5 {
		c.tick()
	}
	if _, err, ends := c.end(1, lost); !errors.Is(err, replica.ErrOverwritten) || ends != 1 {
		t.Errorf("the change ended %d times, with %v", ends, err)
	}
	if got := c.cores[1].Members().GetLearners(); len(got) != 0 {
		t.Errorf("learners %v", got)
	}
}

// A committed change that raft would panic at is refused on every replica, and the group goes on.
func TestCommittedChangeThatIsInvalid(t *testing.T) {
	for name, bad := range map[string]*pb.ConfChangeV2{
		"no voters": {Changes: []*pb.ConfChangeSingle{{Type: pb.ConfChangeRemoveNode.Enum(),
			NodeId: new(uint64(1))}}},
		"leaves what is not joint": {},
		"an unknown transition":    {Transition: pb.ConfChangeTransition(9).Enum()},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			data, err := proto.Marshal(bad)
			must(t, err)
			c.cores, c.stores = map[uint64]*replica.Replica{}, map[uint64]*raft.MemoryStorage{}
			c.begin(1, 1)
			must(t, c.stores[1].Append([]*pb.Entry{{Type: pb.EntryConfChangeV2.Enum(),
				Index: new(uint64(2)), Term: new(uint64(1)), Data: data}}))
			must(t, c.stores[1].SetHardState(&pb.HardState{Term: new(uint64(1)),
				Vote: new(uint64(0)), Commit: new(uint64(2))}))
			c.restart(1)
			for range 30 {
				c.tick()
			}
			if len(c.members[1]) != 0 || fmt.Sprint(c.cores[1].Members().GetVoters()) != "[1]" {
				t.Errorf("members %v, now %v", c.members[1], c.cores[1].Members())
			}
			if _, err := c.change(1, "l2", 2); err != nil {
				t.Errorf("the next change: %v", err)
			}
		})
	}
}

// Raft drops the end of a joint configuration while a transfer is under way, and tries again when
// something else is applied. A group in which nobody writes would stay joint.
func TestJointConfigurationIsLeftInTheEnd(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.beforeApplied = func(id uint64) {
		if id == 1 && len(c.cores[1].Members().GetVotersOutgoing()) != 0 {
			c.beforeApplied = nil
			c.cut[2] = true
			must(t, c.cores[1].Transfer(2))
		}
	}
	c.cores[1].ChangeMembers(&change{what: "l4 l5"})
	c.settle()
	if m := c.cores[1].Members(); len(m.GetVotersOutgoing()) == 0 {
		t.Fatalf("the configuration is not joint: %v", m)
	}
	for range 30 {
		c.tick()
	}
	if len(c.transferred) != 1 || !errors.Is(c.transferred[0].Err, replica.ErrTransferFailed) {
		t.Errorf("transfers: %v", c.transferred)
	}
	if m := c.cores[1].Members(); len(m.GetVotersOutgoing()) != 0 {
		t.Errorf("still joint: %v", m)
	}
}
