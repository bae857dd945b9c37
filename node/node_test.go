package node_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/connectraft/connect/internal/porttest"
	"github.com/connectraft/connect/node"
	"github.com/connectraft/connect/statemachine"
)

// waitMax bounds every wait of these tests that measures nothing; it is only reached when something is
// broken. A cluster of a test waits for disks and processors that other tests use too.
const waitMax = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sum is a state machine that adds numbers: order does not matter for the total, so the history
// keeps it honest about order and repetition.
type sum struct {
	total   uint64
	history uint64 // depends on the order
	fail    error  // returned by Apply when the command is "fail"
}

func (s *sum) Apply(_ statemachine.Meta, command []byte) ([]byte, error) {
	if string(command) == "panic" {
		panic("as asked")
	}
	if s.fail != nil && string(command) == "fail" {
		return nil, s.fail
	}
	n, _ := binary.Uvarint(command)
	s.total += n
	s.history = s.history*31 + n
	return s.Query(nil)
}

func (s *sum) Query([]byte) ([]byte, error) {
	return binary.AppendUvarint(binary.AppendUvarint(nil, s.total), s.history), nil
}

func (s *sum) Snapshot(w io.Writer) error {
	_, err := w.Write(binary.LittleEndian.AppendUint64(
		binary.LittleEndian.AppendUint64(nil, s.total), s.history))
	return err
}

func (s *sum) Restore(r io.Reader) error {
	var b [16]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return err
	}
	s.total, s.history = binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])
	return nil
}

func number(n uint64) []byte { return binary.AppendUvarint(nil, n) }

func total(answer []byte) uint64 {
	n, _ := binary.Uvarint(answer)
	return n
}

// testCluster is nodes in this process, over real sockets and files.
type testCluster struct {
	t       *testing.T
	dir     string
	options node.Options
	nodes   map[uint64]*node.Node
	groups  map[uint64]*node.Group
	joining map[uint64]node.Member // nodes that are none of the first, or have moved
	mu      sync.Mutex             // guards nodes and groups for those who run beside the test
}

func newTestCluster(t *testing.T, size int, change func(*node.Options)) *testCluster {
	t.Helper()
	c := &testCluster{t: t, dir: t.TempDir(), nodes: map[uint64]*node.Node{},
		groups: map[uint64]*node.Group{}, joining: map[uint64]node.Member{}}
	// By default a leader would step down when a sync takes longer than ten of these ticks.
	c.options = node.Options{ClusterID: "test", Tick: 10 * time.Millisecond,
		SyncTimeout: waitMax, SegmentBytes: 1 << 20}
	for id := range uint64(size) {
		c.options.Members = append(c.options.Members,
			node.Member{ID: id + 1, Address: porttest.Address(t)})
	}
	if change != nil {
		change(&c.options)
	}
	t.Cleanup(func() { // also of those that have started when the start of another fails
		showOnFailure(t, c.nodes)
		for id := range c.nodes {
			c.stop(id)
		}
	})
	for id := range uint64(size) {
		c.start(id + 1)
	}
	return c
}

func (c *testCluster) nodeOptions(id uint64) node.Options {
	o := c.options
	if m, ok := c.joining[id]; ok {
		first := slices.ContainsFunc(o.Members, func(m node.Member) bool { return m.ID == id })
		o.Members = slices.DeleteFunc(slices.Clone(o.Members),
			func(m node.Member) bool { return m.ID == id })
		if o.Join = !first; o.Join {
			o.Members = nil
		}
		o.Members = append(o.Members, m)
	}
	o.ID, o.Dir = id, filepath.Join(c.dir, fmt.Sprint(id))
	o.Logger = slog.New(slog.NewTextHandler(c.t.Output(), nil))
	return o
}

func (c *testCluster) start(id uint64) {
	c.t.Helper()
	c.open(id)
	c.serve(id)
}

// open opens a node and starts no group on it.
func (c *testCluster) open(id uint64) *node.Node {
	c.t.Helper()
	n, err := node.Open(c.nodeOptions(id))
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[id] = n
	return n
}

// serve starts the first group on a node that is open.
func (c *testCluster) serve(id uint64) {
	c.t.Helper()
	g, err := c.nodes[id].StartGroup(1, &sum{fail: errors.New("broken")})
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups[id] = g
}

func (c *testCluster) stop(id uint64) {
	c.t.Helper()
	if err := c.nodes[id].Close(); err != nil {
		c.t.Errorf("close node %d: %v", id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.nodes, id)
	delete(c.groups, id)
}

// stopAllBut stops every node but one.
func (c *testCluster) stopAllBut(id uint64) {
	c.t.Helper()
	for other := range c.nodes {
		if other != id {
			c.stop(other)
		}
	}
}

// restart stops all nodes that run, and then starts them again.
func (c *testCluster) restart() {
	c.t.Helper()
	list := slices.Sorted(maps.Keys(c.nodes))
	for _, id := range list {
		c.stop(id)
	}
	for _, id := range list {
		c.start(id)
	}
}

// any returns one of the groups that run, another one for another n; nil when none does.
func (c *testCluster) any(n int) *node.Group {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.groups) == 0 {
		return nil
	}
	return c.groups[slices.Sorted(maps.Keys(c.groups))[n%len(c.groups)]]
}

// showOnFailure logs what every group and every connection of the nodes looks like when the test has
// failed. It is called when the test ends, before the nodes are closed.
func showOnFailure(t testing.TB, nodes map[uint64]*node.Node) {
	t.Helper()
	if !t.Failed() {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(nodes)) {
		for _, g := range nodes[id].Groups() {
			m := g.Membership()
			t.Logf("node %d at the end: %+v, ready: %v, members: %s", id, g.Status(), g.Ready(), &m)
		}
		for _, p := range nodes[id].Peers() {
			t.Logf("node %d at the end: peer %+v", id, p)
		}
	}
}

// within fails the test when condition does not come true in time.
func (c *testCluster) within(what string, condition func() bool) {
	c.t.Helper()
	eventually(c.t, what, condition)
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	poll(t, waitMax, what, condition)
}

// poll fails the test when condition does not come true within limit.
func poll(t testing.TB, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(5 * time.Millisecond) // the pace of the poll, not the wait itself
	}
}

// openNode opens a node alone, shows what it is like when the test has failed, and closes it.
func openNode(t *testing.T, o node.Options) *node.Node {
	t.Helper()
	n, err := node.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		showOnFailure(t, map[uint64]*node.Node{o.ID: n})
		n.Close()
	})
	return n
}

func (c *testCluster) ready() {
	c.t.Helper()
	c.within("every node serves", func() bool {
		for _, g := range c.groups {
			if g.Ready() != nil {
				return false
			}
		}
		return true
	})
}

// leader waits until one of the running nodes leads, and returns its id.
func (c *testCluster) leader() (id uint64) {
	c.t.Helper()
	c.within("a leader among the running nodes", func() bool {
		for other, g := range c.groups {
			if g.Status().Role == "leader" {
				id = other
				return true
			}
		}
		return false
	})
	return id
}

func (c *testCluster) follower() uint64 {
	leader := c.leader()
	for id := range c.groups {
		if id != leader {
			return id
		}
	}
	c.t.Fatal("no follower")
	return 0
}

func background(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	t.Cleanup(cancel)
	return ctx
}

func (c *testCluster) add(id, n uint64) uint64 {
	c.t.Helper()
	r, err := c.groups[id].Propose(background(c.t), number(n))
	if err != nil {
		c.t.Fatalf("add on node %d: %v", id, err)
	}
	return total(r.Answer)
}

// grow has the log of the first group grow by an entry that adds nothing. What became of it may stay
// unknown, as when a leader stalls for longer than a node waits for its answer: it does not matter.
func (c *testCluster) grow(id uint64) {
	c.t.Helper()
	_, err := c.groups[id].Propose(background(c.t), number(0))
	if err != nil && node.OutcomeOf(err) != node.Unknown {
		c.t.Fatalf("grow the log on node %d: %v", id, err)
	}
}

// agree waits until every node has applied the same, and returns the total.
func (c *testCluster) agree() uint64 {
	c.t.Helper()
	var answers map[string]bool
	c.within("every node has the same state", func() bool {
		answers = map[string]bool{}
		for _, g := range c.groups {
			r, err := g.Read(background(c.t), nil, node.Stale(0))
			if err != nil {
				c.t.Fatal(err)
			}
			answers[string(r.Answer)] = true
		}
		return len(answers) == 1
	})
	for a := range answers {
		return total([]byte(a))
	}
	return 0
}

func TestAnyNodeTakesCommandsAndReads(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	want := uint64(0)
	for range 20 {
		for id := range c.groups {
			want++
			if got := c.add(id, 1); got != want {
				t.Fatalf("node %d answers %d, want %d", id, got, want)
			}
			for other, g := range c.groups {
				r, err := g.Read(background(t), nil, node.Linearizable)
				if err != nil || total(r.Answer) != want {
					t.Fatalf("node %d reads %d, %v, want %d", other, total(r.Answer), err, want)
				}
			}
		}
	}
}

func TestManyCommandsAtOnce(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	var wg sync.WaitGroup
	const perNode = 2000
	for _, g := range c.groups {
		wg.Go(func() {
			calls := make([]*node.Call, perNode)
			for i := range calls {
				calls[i] = g.Go(number(1))
			}
			allApplied(t, calls)
		})
	}
	wg.Wait()
	if got := c.agree(); got != 3*perNode {
		t.Errorf("total %d, want %d", got, 3*perNode)
	}
}

func TestStateComesBackFromTheLog(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	for range 10 {
		c.add(c.leader(), 3)
	}
	c.restart()
	c.ready()
	r, err := c.groups[2].Read(background(t), nil, node.Linearizable)
	if err != nil || total(r.Answer) != 30 {
		t.Errorf("read %d, %v, want 30", total(r.Answer), err)
	}
}

func TestLeaderChangeLosesNothing(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	sent := uint64(0)
	for range 3 {
		leader := c.leader()
		for range 5 {
			sent++
			c.add(leader, 1)
		}
		c.stop(leader)
		sent++
		c.add(c.leader(), 1)
		c.start(leader)
		c.ready()
	}
	if got := c.agree(); got != sent {
		t.Errorf("total %d, want %d", got, sent)
	}
}

// A follower that was away while the log was truncated comes back through a snapshot.
func TestFollowerComesBackThroughASnapshot(t *testing.T) {
	c := newTestCluster(t, 3, func(o *node.Options) { o.SnapshotEntries = 20 })
	c.ready()
	away := c.follower()
	c.add(away, 1)
	c.stop(away)
	leader := c.leader()
	last := c.groups[leader].Status().LastIndex
	sent := uint64(1)
	c.within("the log was truncated behind the follower", func() bool {
		sent++
		c.add(leader, 1)
		return c.groups[leader].Status().FirstIndex > last+1
	})
	c.start(away)
	c.ready()
	if got := c.agree(); got != sent {
		t.Errorf("total %d, want %d", got, sent)
	}
	if c.groups[away].Status().SnapshotIndex <= last {
		t.Error("the follower came back without a snapshot")
	}
	// The snapshot is good for a restart too.
	c.stop(away)
	c.start(away)
	c.ready()
	if got := c.agree(); got != sent {
		t.Errorf("total after a restart %d, want %d", got, sent)
	}
}

func TestCommandWithoutAMajorityIsWithdrawnOrUnknown(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	c.registered()
	leader := c.leader()
	last := c.groups[leader].Status().LastIndex
	var releases []func()
	for id, n := range c.nodes {
		if id != leader { // it acknowledges nothing; a leader that hears nobody might be none any more
			release := node.HoldLog(n)
			defer release()
			releases = append(releases, release)
		}
	}
	call := c.groups[leader].Go(number(1))
	c.within("the command is in the log", func() bool {
		return c.groups[leader].Status().LastIndex > last
	})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := call.Wait(ctx)
	if node.OutcomeOf(err) != node.Unknown || !errors.Is(err, node.ErrUnknown) {
		t.Errorf("a command in the log of a leader alone: %v, want ErrUnknown", err)
	}
	for _, release := range releases {
		release()
	}
	c.stopAllBut(leader)
	c.within("the leader steps down", func() bool { return c.groups[leader].Status().Leader == 0 })
	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = c.groups[leader].Propose(ctx, number(1))
	if node.OutcomeOf(err) != node.NotApplied || !errors.Is(err, node.ErrNoLeader) {
		t.Errorf("a command without a leader: %v, want ErrNoLeader", err)
	}
	if err := c.groups[leader].Ready(); !errors.Is(err, node.ErrNoLeader) {
		t.Errorf("ready: %v, want ErrNoLeader", err)
	}
}

func TestBrokenMachineStopsItsGroupAlone(t *testing.T) {
	for _, command := range []string{"fail", "panic"} {
		t.Run(command, func(t *testing.T) {
			c := newTestCluster(t, 1, nil)
			other, err := c.nodes[1].StartGroup(2, &sum{})
			if err != nil {
				t.Fatal(err)
			}
			c.ready()
			_, err = c.groups[1].Propose(background(t), []byte(command))
			if node.OutcomeOf(err) != node.Unknown {
				t.Errorf("the command that broke the machine: %v, want an unknown outcome", err)
			}
			_, err = c.groups[1].Propose(background(t), number(1))
			if !errors.Is(err, node.ErrGroupFailed) {
				t.Errorf("a command after it: %v, want ErrGroupFailed", err)
			}
			if s := c.groups[1].Status(); s.Role != "failed" || s.Failed == "" {
				t.Errorf("status %+v does not tell", s)
			}
			if _, err := other.Propose(background(t), number(1)); err != nil {
				t.Errorf("the other group: %v", err)
			}
		})
	}
}

func TestAdmissionIsBounded(t *testing.T) {
	c := newTestCluster(t, 1, func(o *node.Options) {
		o.InflightCommands, o.CommandBytes = 4, 100
	})
	c.ready()
	if _, err := c.groups[1].Propose(background(t), make([]byte, 101)); !errors.Is(err, node.ErrTooLarge) {
		t.Errorf("a large command: %v, want ErrTooLarge", err)
	}
	overloaded := 0
	var calls []*node.Call
	for range 1000 {
		calls = append(calls, c.groups[1].Go(number(1)))
	}
	for _, call := range calls {
		_, err := call.Wait(background(t))
		if errors.Is(err, node.ErrOverloaded) {
			overloaded++
		} else if err != nil {
			t.Error(err)
		}
	}
	if overloaded == 0 {
		t.Error("1000 commands at once were all admitted although 4 are allowed")
	}
	if n := c.groups[1].Status().Inflight; n != 0 {
		t.Errorf("%d commands in flight after all have ended", n)
	}
}

func TestCallsEndWhenTheNodeCloses(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	leader := c.leader()
	c.stopAllBut(leader)
	g := c.groups[leader]
	call := g.Go(number(1)) // in the log, and without a majority
	read := g.GoRead(nil, node.Linearizable)
	c.stop(leader)
	if _, err := call.Wait(background(t)); err == nil {
		t.Error("the command succeeded without a majority")
	}
	if _, err := read.Wait(background(t)); err == nil {
		t.Error("the read succeeded without a majority")
	}
	if _, err := g.Propose(background(t), number(1)); !errors.Is(err, node.ErrClosed) {
		t.Errorf("a command after Close: %v, want ErrClosed", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	c := newTestCluster(t, 1, nil)
	if _, err := node.Open(c.nodeOptions(1)); err == nil {
		t.Error("a second node opened the directory of a running one")
	}
	o := c.nodeOptions(1)
	c.stop(1)
	o.ClusterID = "other"
	if _, err := node.Open(o); err == nil {
		t.Error("a node of another cluster opened the directory")
	}
	o = c.nodeOptions(7)
	if _, err := node.Open(o); err == nil {
		t.Error("a node that is no member opened")
	}
}

// A group without a state machine would fail at its first command, on every node.
func TestGroupNeedsAMachine(t *testing.T) {
	c := newTestCluster(t, 1, func(o *node.Options) {
		o.Machines = func(uint64) (statemachine.Machine, error) { return nil, nil }
	})
	c.ready()
	if _, err := c.nodes[1].StartGroup(2, nil); err == nil {
		t.Error("a group starts with no machine")
	}
	if err := c.nodes[1].CreateGroup(background(t), 3); err == nil || c.nodes[1].Group(3) != nil {
		t.Errorf("a group is created with no machine: %v", err)
	}
}

func TestDrainHandsLeadershipsOver(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	leader := c.leader()
	if err := c.nodes[leader].Drain(background(t)); err != nil {
		t.Fatal(err)
	}
	if next := c.leader(); next == leader {
		t.Error("the drained node leads")
	}
}

func TestDrainTellsWhatIsLeft(t *testing.T) {
	c := newTestCluster(t, 1, nil)
	c.ready()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := c.nodes[1].Drain(ctx); err == nil {
		t.Error("a single node handed its leadership over")
	}
}

// A node whose directory was lost before the others had registered its incarnation comes back under
// its id by itself, fenced, and nothing that was acknowledged with its help is forgotten: here by the
// one other node that has it.
func TestDirectoryLostBeforeItIsRegisteredForgetsNothing(t *testing.T) {
	// The registration waits for all members, three of these election timeouts at most: six seconds, in
	// which a slow disk must sync what the test does before it.
	c := newTestCluster(t, 3, func(o *node.Options) { o.ElectionTicks = 200 })
	lost, witness, late := uint64(1), uint64(2), uint64(3)
	c.within("the groups have begun", func() bool {
		return !slices.ContainsFunc([]uint64{lost, witness, late}, func(id uint64) bool {
			return c.groups[id].Status().LastIndex == 0
		})
	})
	c.stop(late) // before anybody leads
	for range 5 {
		c.add(c.leader(), 1) // acknowledged by lost and witness alone
	}
	c.stop(witness)
	if m := c.groups[lost].Membership(); m.Voters[0].Incarnation != 0 {
		t.Fatal("the incarnations are registered: the test has been too slow")
	}
	c.stop(lost)
	if err := os.RemoveAll(c.nodeOptions(lost).Dir); err != nil {
		t.Fatal(err)
	}
	c.start(lost)
	c.start(late)
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if r, err := c.groups[late].Read(ctx, nil, node.Linearizable); err == nil {
		t.Fatalf("a node that missed the commands and one that lost them serve %d", total(r.Answer))
	}
	if err := c.groups[lost].Ready(); err == nil {
		t.Error("the node with the empty directory says that it serves")
	}
	c.stop(lost)
	c.start(lost) // it is no wiser
	c.start(witness)
	c.ready()
	if got := c.agree(); got != 5 {
		t.Errorf("total %d, want 5", got)
	}
	c.add(lost, 1)
	c.stop(lost)
	c.start(lost)
	c.ready()
	if got := c.agree(); got != 6 {
		t.Errorf("total %d after another start, want 6", got)
	}
}
