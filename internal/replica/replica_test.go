package replica_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// command is a proposal of the tests.
type command struct {
	data                   string
	local, withdrawn, took bool
}

func (c *command) Command() replica.Command { return replica.Command{Data: []byte(c.data)} }
func (c *command) Take() bool               { c.took = !c.withdrawn; return c.took }
func (c *command) Release()                 { c.took = false }
func (c *command) Withdrawn() bool          { return c.withdrawn }
func (c *command) Local() bool              { return c.local }

type read struct {
	withdrawn bool
	freshness replica.Freshness
}

func (r *read) Withdrawn() bool              { return r.withdrawn }
func (r *read) Freshness() replica.Freshness { return r.freshness }

// lease is that of the cores of the tests, whose ticks take 100 ms.
const lease = 800 * time.Millisecond

// cluster is three cores whose effects are carried by hand: in order, at once, nothing lost unless
// a link is cut.
type cluster struct {
	t       *testing.T
	cores   map[uint64]*replica.Replica
	stores  map[uint64]*raft.MemoryStorage
	cut     map[uint64]bool // messages from and to these nodes are lost
	network []*pb.Message
	mono    int64 // all nodes' monotonic clock

	applied map[uint64][]string           // commands, by node
	done    map[replica.Proposal]uint64   // completed on the proposing node, with the index
	lost    map[replica.Proposal]error    // ended without being applied
	unknown map[replica.Proposal]bool     // of these, those that may have been applied all the same
	reads   map[replica.Read]uint64       // confirmed, with the index
	forward map[uint64][]replica.Proposal // waiting to be carried to the leader, by node

	members     map[uint64][]replica.Membership // by node
	durable     map[uint64]uint64               // commit index that was synced, by node
	changes     []replica.ChangeEnd             // that were not applied
	transferred []replica.TransferEnd
	configure   func(*replica.Config) // changes the configuration of cores that begin, when not nil
	// beforeApplied is called before a node acknowledges entries as applied, when it is not nil.
	beforeApplied func(id uint64)
	// hold takes messages off the network, when it is not nil.
	hold func(*pb.Message) bool
	// forgets takes appends that never become durable, when it is not nil.
	forgets func(id uint64, a *replica.Append) bool
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, cores: map[uint64]*replica.Replica{}, cut: map[uint64]bool{},
		stores: map[uint64]*raft.MemoryStorage{}, applied: map[uint64][]string{},
		done: map[replica.Proposal]uint64{}, lost: map[replica.Proposal]error{},
		unknown: map[replica.Proposal]bool{},
		reads:   map[replica.Read]uint64{}, forward: map[uint64][]replica.Proposal{}}
	c.members = map[uint64][]replica.Membership{}
	c.durable = map[uint64]uint64{}
	for id := uint64(1); id <= 3; id++ {
		c.begin(id, 1, 2, 3)
	}
	return c
}

// restart gives a node a new core on what its log holds.
func (c *cluster) restart(id uint64) {
	_, members, err := c.stores[id].InitialState()
	must(c.t, err)
	config := replica.Config{Group: 1, ID: id, ElectionTicks: 10, HeartbeatTicks: 1,
		Storage: c.stores[id], Applied: 1, Version: 1, EntryBytes: 64, InflightBytes: 1 << 20,
		AppendsAhead: 4, ReadSeed: id << 40, Lease: lease,
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}}
	if c.configure != nil {
		c.configure(&config)
	}
	core, err := replica.New(config)
	must(c.t, err)
	if len(members.GetVoters()) == 0 {
		c.t.Fatalf("node %d restarts without members", id)
	}
	c.cores[id], c.applied[id] = core, nil
}

// begin starts a node on the imaginary snapshot that a group begins with; without voters, on an empty
// log, as one that is to be added.
func (c *cluster) begin(id uint64, voters ...uint64) {
	s := raft.NewMemoryStorage()
	config := replica.Config{Group: 1, ID: id, ElectionTicks: 10, HeartbeatTicks: 1, Storage: s,
		EntryBytes: 64, InflightBytes: 1 << 20, AppendsAhead: 4, ReadSeed: id << 32, Begins: true,
		Lease:  lease,
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}}
	if len(voters) > 0 {
		must(c.t, s.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)),
			Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: voters}}}))
		must(c.t, s.SetHardState(&pb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)),
			Commit: new(uint64(1))}))
		config.Applied, config.Version = 1, 1
	}
	if c.configure != nil {
		c.configure(&config)
	}
	core, err := replica.New(config)
	must(c.t, err)
	c.cores[id], c.stores[id] = core, s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// settle carries effects until nothing moves and nothing is held back.
func (c *cluster) settle() {
	c.t.Helper()
	c.carryAll()
	for c.flush() {
		c.carryAll()
	}
}

// carryAll carries effects until nothing moves.
func (c *cluster) carryAll() {
	c.t.Helper()
	for range 10_000 {
		moved := false
		for _, id := range slices.Sorted(maps.Keys(c.cores)) {
			for c.cores[id].HasReady() {
				moved = true
				c.carry(id, c.cores[id].Ready(int64(len(c.network)), c.mono))
			}
		}
		for _, m := range c.network {
			moved = true
			if c.hold != nil && c.hold(m) {
				continue
			}
			if c.cores[m.GetTo()] != nil && !c.cut[m.GetFrom()] && !c.cut[m.GetTo()] {
				core := c.cores[m.GetTo()]
				err := error(nil)
				late := m.GetType() == pb.MsgAppResp && !m.GetReject() && m.GetIndex() != 0 &&
					m.GetIndex() == core.Settled()
				c.unawaited(core, late, func() { err = core.Step(m.GetFrom(), m) })
				if err != nil && !errors.Is(err, replica.ErrRefused) {
					c.t.Fatal(err)
				}
			}
		}
		c.network = nil
		if !moved {
			return
		}
	}
	c.t.Fatal("the cluster does not come to rest")
}

// flush lets the cores send what they hold back and reports whether there was anything.
func (c *cluster) flush() (held bool) {
	for _, core := range c.cores {
		held = held || core.Holding()
		core.Flush()
	}
	return held
}

func (c *cluster) carry(id uint64, rd replica.Ready) {
	core := c.cores[id]
	c.network = append(c.network, rd.Messages...)
	if a := rd.Append; a != nil && (c.forgets == nil || !c.forgets(id, a)) {
		c.persist(id, a)
		for _, m := range a.Responses {
			if m.GetTo() == id {
				awaited := core.AwaitsAppended() || a.Snapshot != nil
				c.unawaited(core, !awaited, func() { core.Ack(m) })
			} else {
				c.network = append(c.network, m)
			}
		}
		if len(a.Entries) > 0 {
			core.Appended()
		}
	}
	if rd.Apply != nil {
		c.apply(id, rd.Apply)
	}
	for _, round := range rd.Reads {
		for _, r := range round.Reads {
			c.reads[r] = round.Index
		}
	}
	for _, l := range rd.Lost {
		for _, p := range l.Proposals {
			c.lost[p], c.unknown[p] = l.Err, l.Unknown
		}
	}
	c.forward[id] = append(c.forward[id], rd.Forward...)
	c.changes = append(c.changes, rd.Changes...)
	if rd.Transferred != nil {
		c.transferred = append(c.transferred, *rd.Transferred)
	}
}

// persist puts an append into the node's log.
func (c *cluster) persist(id uint64, a *replica.Append) {
	if a.Snapshot != nil {
		must(c.t, c.stores[id].ApplySnapshot(a.Snapshot))
		c.cores[id].Restored(a.Snapshot.GetMetadata().GetIndex())
	}
	must(c.t, c.stores[id].Append(a.Entries))
	if a.State != nil {
		must(c.t, c.stores[id].SetHardState(a.State))
		if a.Sync {
			c.durable[id] = a.State.GetCommit()
		}
	}
}

func (c *cluster) apply(id uint64, a *replica.Apply) {
	c.members[id] = append(c.members[id], a.Members...)
	for _, m := range a.Members { // for a member that is new: older snapshots do not know it
		_, err := c.stores[id].CreateSnapshot(m.Index, m.ConfState, nil)
		must(c.t, err)
	}
	for i, e := range a.Entries {
		if len(e.GetData()) == 0 || e.GetType() != pb.EntryNormal {
			continue
		}
		entry, err := replica.Unpack(e.GetData())
		must(c.t, err)
		for j := range entry.Commands {
			command, err := entry.Next()
			must(c.t, err)
			c.applied[id] = append(c.applied[id], string(command.Data))
			if a.Batches != nil && a.Batches[i] != nil {
				c.done[a.Batches[i].Proposals[j]] = e.GetIndex()
			}
		}
	}
	if c.beforeApplied != nil {
		c.beforeApplied(id)
	}
	for _, m := range a.Done {
		core := c.cores[id]
		awaited := core.AwaitsApplied() || len(a.Members) > 0
		c.unawaited(core, !awaited, func() { core.Ack(m) })
	}
}

// unawaited holds a core to it that an event which may wait for the next one leads to nothing.
func (c *cluster) unawaited(core *replica.Replica, mayWait bool, event func()) {
	c.t.Helper()
	before := core.HasReady()
	event()
	if mayWait && !before && core.HasReady() {
		c.t.Error("an event that may wait for the next one has led to something")
	}
}

func (c *cluster) elect(id uint64) {
	c.t.Helper()
	must(c.t, c.cores[id].Campaign())
	c.settle()
	if got := c.cores[id].Status().Leader; got != id {
		c.t.Fatalf("leader is %d, want %d", got, id)
	}
}

// electOneOf has time pass on these nodes until one of them leads, and returns it. Of two that stand at
// the same moment none gets a majority, so that may take several elections.
func (c *cluster) electOneOf(ids ...uint64) uint64 {
	c.t.Helper()
	for range 1000 {
		for _, id := range ids {
			c.cores[id].Tick()
		}
		c.settle()
		for _, id := range ids {
			if c.cores[id].Status().Role == raft.StateLeader {
				return id
			}
		}
	}
	c.t.Fatalf("none of the nodes %v was elected", ids)
	return 0
}

func proposals(commands ...*command) (list []replica.Proposal) {
	for _, c := range commands {
		list = append(list, c)
	}
	return list
}

func TestCommandsThatWaitShareOneEntry(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	before := c.cores[1].Status().LastIndex
	a, b, gone := &command{data: "a"}, &command{data: "b"}, &command{data: "x", withdrawn: true}
	c.cores[1].Propose(proposals(a, gone, b))
	c.settle()
	if got := c.cores[1].Status().LastIndex; got != before+1 {
		t.Errorf("last index %d, want %d: one entry", got, before+1)
	}
	if c.done[a] != before+1 || c.done[b] != before+1 {
		t.Errorf("completed at %d and %d, want %d", c.done[a], c.done[b], before+1)
	}
	if !errors.Is(c.lost[gone], replica.ErrWithdrawn) {
		t.Errorf("withdrawn command ended with %v", c.lost[gone])
	}
	for id := range c.cores {
		if got := fmt.Sprint(c.applied[id]); got != "[a b]" {
			t.Errorf("node %d applied %s, want [a b]", id, got)
		}
	}
}

func TestEntriesAreBounded(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	before := c.cores[1].Status().LastIndex
	var all []*command
	for i := range 10 {
		all = append(all, &command{data: fmt.Sprintf("%020d", i)}) // 3 fit 64 bytes
	}
	c.cores[1].Propose(proposals(all...))
	c.settle()
	if got := c.cores[1].Status().LastIndex - before; got != 4 {
		t.Errorf("%d entries, want 4", got)
	}
	for i, p := range all {
		if want := before + 1 + uint64(i/3); c.done[p] != want {
			t.Errorf("command %d completed at %d, want %d", i, c.done[p], want)
		}
	}
}

func TestFollowerHandsCommandsOutForTheLeader(t *testing.T) {
	c := newCluster(t)
	free, local := &command{data: "f"}, &command{data: "l", local: true}
	c.cores[2].Propose(proposals(free, local))
	c.settle()
	if len(c.forward[2]) != 0 || len(c.lost) != 0 {
		t.Fatal("commands moved although there is no leader")
	}
	c.elect(1)
	if len(c.forward[2]) != 1 || c.forward[2][0] != replica.Proposal(free) || free.took {
		t.Errorf("forwarded %v, want the one free command, not taken", c.forward[2])
	}
	if !errors.Is(c.lost[local], replica.ErrNotLeader) {
		t.Errorf("local command ended with %v", c.lost[local])
	}
}

// A deposed leader's command at an index where another leader's entry is committed is lost for
// sure, and its waiter learns it.
func TestOverwrittenCommandIsLost(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.cut[1] = true
	lost := &command{data: "lost"}
	c.cores[1].Propose(proposals(lost))
	c.settle()
	for range 30 { // the others' leases of the old leader run out
		c.cores[2].Tick()
		c.cores[3].Tick()
	}
	c.settle()
	if c.cores[2].Status().Leader != 2 && c.cores[2].Status().Leader != 3 {
		c.elect(2)
	}
	leader := c.cores[2].Status().Leader
	c.cores[leader].Propose(proposals(&command{data: "won"}))
	c.settle()
	c.cut[1] = false
	c.cores[leader].Tick()
	c.settle()
	c.cores[leader].Tick()
	c.settle()
	if err := c.lost[lost]; !errors.Is(err, replica.ErrOverwritten) {
		t.Fatalf("the command ended with %v, want ErrOverwritten", err)
	}
	if got := fmt.Sprint(c.applied[1]); got != "[won]" {
		t.Errorf("node 1 applied %s, want [won]", got)
	}
}

func TestReadsShareOneRoundAndSurviveALostOne(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	p := &command{data: "a"}
	c.cores[1].Propose(proposals(p))
	c.settle()
	first, second := &read{}, &read{}
	c.cut[2], c.cut[3] = true, true // the round is lost
	c.cores[2].Read([]replica.Read{first, second})
	c.settle()
	if len(c.reads) != 0 {
		t.Fatal("reads were confirmed without the leader")
	}
	c.cut[2], c.cut[3] = false, false
	for range 10 {
		c.cores[2].Tick()
		c.cores[1].Tick()
	}
	c.settle()
	if c.reads[first] < c.done[p] || c.reads[second] < c.done[p] {
		t.Errorf("read indexes %d and %d, want at least %d", c.reads[first], c.reads[second],
			c.done[p])
	}
}

func TestSweepTakesWhatWasWithdrawn(t *testing.T) {
	c := newCluster(t)
	stays, left := &command{data: "s"}, &command{data: "l"}
	readStays, readLeft := &read{}, &read{}
	c.cores[1].Propose(proposals(left, stays))
	c.cores[1].Read([]replica.Read{readLeft, readStays})
	left.withdrawn, readLeft.withdrawn = true, true
	gone, reads := c.cores[1].Sweep()
	if len(gone) != 1 || gone[0] != replica.Proposal(left) || len(reads) != 1 ||
		reads[0] != replica.Read(readLeft) {
		t.Errorf("swept %v and %v", gone, reads)
	}
	queued, placed := c.cores[1].Pending()
	if len(queued) != 1 || len(placed) != 0 || len(c.cores[1].PendingReads()) != 1 {
		t.Errorf("pending %v and %v", queued, placed)
	}
}

func TestGateRefuses(t *testing.T) {
	entry := func(index, term uint64) *pb.Entry {
		return &pb.Entry{Index: new(index), Term: new(term)}
	}
	message := func(kind pb.MessageType, change func(*pb.Message)) *pb.Message {
		m := &pb.Message{Type: kind.Enum(), From: new(uint64(2)), To: new(uint64(1)),
			Term: new(uint64(5)), Index: new(uint64(1)), LogTerm: new(uint64(1))}
		if change != nil {
			change(m)
		}
		return m
	}
	for name, m := range map[string]*pb.Message{
		"a local message":      message(pb.MsgHup, nil),
		"a storage response":   message(pb.MsgStorageAppendResp, nil),
		"a forwarded proposal": message(pb.MsgProp, nil),
		"another receiver":     message(pb.MsgApp, func(m *pb.Message) { m.To = new(uint64(3)) }),
		"another sender":       message(pb.MsgApp, func(m *pb.Message) { m.From = new(uint64(3)) }),
		"no term":              message(pb.MsgHeartbeat, func(m *pb.Message) { m.Term = nil }),
		"a short context": message(pb.MsgHeartbeatResp,
			func(m *pb.Message) { m.Context = []byte("abc") }),
		"entries with a gap": message(pb.MsgApp, func(m *pb.Message) {
			m.Entries = []*pb.Entry{entry(2, 5), entry(4, 5)}
		}),
		"entries of a later term": message(pb.MsgApp, func(m *pb.Message) {
			m.Entries = []*pb.Entry{entry(2, 6)}
		}),
		"entries whose terms fall": message(pb.MsgApp, func(m *pb.Message) {
			m.Entries = []*pb.Entry{entry(2, 4), entry(3, 3)}
		}),
		"entries on a vote": message(pb.MsgVote, func(m *pb.Message) {
			m.Entries = []*pb.Entry{entry(2, 4)}
		}),
		"an empty snapshot":   message(pb.MsgSnap, nil),
		"a read without a id": message(pb.MsgReadIndex, nil),
	} {
		t.Run(name, func(t *testing.T) {
			core := newCluster(t).cores[1]
			if err := core.Step(2, m); !errors.Is(err, replica.ErrRefused) {
				t.Errorf("Step: %v, want ErrRefused", err)
			}
			if core.HasReady() {
				t.Error("the refused message changed the core")
			}
		})
	}
}

// A leader that has seen this node acknowledge more than its log holds proves a lost disk. Raft
// itself would panic (formance issue 1476).
func TestHeartbeatBeyondTheLogIsALostDisk(t *testing.T) {
	core := newCluster(t).cores[1]
	m := &pb.Message{Type: pb.MsgHeartbeat.Enum(), From: new(uint64(2)), To: new(uint64(1)),
		Term: new(uint64(5)), Commit: new(uint64(100))}
	if err := core.Step(2, m); !errors.Is(err, replica.ErrLogLost) {
		t.Errorf("Step: %v, want ErrLogLost", err)
	}
	if !errors.Is(core.Status().Fault, replica.ErrLogLost) {
		t.Errorf("fault: %v", core.Status().Fault)
	}
}
