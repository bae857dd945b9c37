package node_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/porttest"
	"github.com/connectraft/connect/node"
)

// newMember takes an address for a node that is to be added, and has it start so later.
func (c *testCluster) newMember(id uint64) node.Member {
	c.t.Helper()
	m := node.Member{ID: id, Address: porttest.Address(c.t)}
	c.joining[id] = m
	return m
}

// join starts a node that waits to be added.
func (c *testCluster) join(id uint64) node.Member {
	c.t.Helper()
	m := c.newMember(id)
	c.start(id)
	return m
}

// change has a node change the members, which must succeed.
func (c *testCluster) change(at uint64, change node.Change) node.Membership {
	c.t.Helper()
	m, err := c.groups[at].Change(background(c.t), change, nil)
	if err != nil {
		c.t.Fatalf("change on node %d: %v", at, err)
	}
	return m
}

// registered waits until every running node knows the incarnation of every member.
func (c *testCluster) registered() node.Membership {
	c.t.Helper()
	var m node.Membership
	c.within("the incarnations are registered", func() bool {
		for _, g := range c.groups {
			m = g.Membership()
			for _, member := range append(m.Voters, m.Learners...) {
				if member.Incarnation == 0 {
					return false
				}
			}
		}
		return true
	})
	return m
}

func ids(members []node.Member) (list []uint64) {
	for _, m := range members {
		list = append(list, m.ID)
	}
	return list
}

func wantMembers(t *testing.T, m node.Membership, voters, learners []uint64) {
	t.Helper()
	if !slices.Equal(ids(m.Voters), voters) || !slices.Equal(ids(m.Learners), learners) || m.Joint {
		t.Errorf("members: %s, want voters %v, learners %v", &m, voters, learners)
	}
}

// load adds ones on every running node until it is stopped, and counts those acknowledged.
type load struct {
	acknowledged, unknown atomic.Uint64
	stop                  context.CancelFunc
	clients               sync.WaitGroup
	mu                    sync.Mutex
	history               []addition
}

// addition is one acknowledged command and its answer.
type addition struct {
	begin, end time.Time
	total      uint64
}

// checkLinear holds that the totals are those of additions one after the other, each between its
// begin and its end: no total comes twice, and none is below one that was answered before it began.
func (l *load) checkLinear(t *testing.T) {
	t.Helper()
	byBegin, byEnd := slices.Clone(l.history), slices.Clone(l.history)
	slices.SortFunc(byBegin, func(a, b addition) int { return a.begin.Compare(b.begin) })
	slices.SortFunc(byEnd, func(a, b addition) int { return a.end.Compare(b.end) })
	seen, highest, ended := map[uint64]bool{}, uint64(0), 0
	for _, a := range byBegin {
		for ; byEnd[ended].end.Before(a.begin); ended++ {
			highest = max(highest, byEnd[ended].total)
		}
		if a.total <= highest {
			t.Errorf("a command that began after %d was answered is answered %d", highest, a.total)
		}
		if seen[a.total] {
			t.Errorf("two commands are answered %d", a.total)
		}
		seen[a.total] = true
	}
}

// startLoad has clients that each move over the nodes of the cluster as they are now and later.
func (c *testCluster) startLoad(clients int) *load {
	l := &load{}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	for i := range clients {
		l.clients.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				g := c.any(n)
				if g == nil {
					continue
				}
				call, cancel := context.WithTimeout(ctx, 5*time.Second)
				begin := time.Now()
				r, err := g.Propose(call, number(1))
				cancel()
				switch {
				case err == nil:
					l.mu.Lock()
					l.history = append(l.history, addition{begin, time.Now(), total(r.Answer)})
					l.mu.Unlock()
					l.acknowledged.Add(1)
				case node.OutcomeOf(err) == node.Unknown:
					l.unknown.Add(1)
				default:
					time.Sleep(time.Millisecond) // a removed node refuses at once
				}
			}
		})
	}
	return l
}

func (l *load) end() (acknowledged, atMost uint64) {
	l.stop()
	l.clients.Wait()
	return l.acknowledged.Load(), l.acknowledged.Load() + l.unknown.Load()
}

// TestFromThreeToFiveToThreeOthers replaces most of a cluster under load, in two changes.
func TestFromThreeToFiveToThreeOthers(t *testing.T) {
	c := newTestCluster(t, 3, func(o *node.Options) { o.SnapshotEntries = 500 })
	c.ready()
	l := c.startLoad(4)
	defer l.end()
	c.within("there is some state", func() bool { return l.acknowledged.Load() > 100 })
	asked := c.follower()
	four, five := c.join(4), c.join(5)
	if err := c.groups[4].Ready(); !errors.Is(err, node.ErrNotAdded) {
		t.Errorf("ready before it is added: %v, want ErrNotAdded", err)
	}
	var phases []node.Phase
	m, err := c.groups[asked].Change(background(t), node.Change{Add: []node.Member{four, five}},
		func(p node.ChangeProgress) {
			if !slices.Contains(phases, p.Phase) {
				phases = append(phases, p.Phase)
			}
		})
	if err != nil {
		t.Fatal(err)
	}
	wantMembers(t, m, []uint64{1, 2, 3, 4, 5}, nil)
	want := []node.Phase{node.PhaseAdding, node.PhaseCatchingUp, node.PhaseSwitching}
	for _, phase := range want {
		if !slices.Contains(phases, phase) {
			t.Errorf("no progress while %s: %v", phase, phases)
		}
	}
	c.ready()
	wantMembers(t, c.change(4, node.Change{Remove: []uint64{1, 2}}), []uint64{3, 4, 5}, nil)
	for _, id := range []uint64{1, 2} {
		c.within(fmt.Sprintf("node %d knows that it was removed", id), func() bool {
			return errors.Is(c.groups[id].Ready(), node.ErrRemoved)
		})
		if s := c.groups[id].Status(); s.Role != "absent" || !strings.Contains(s.Absent, "removed") {
			t.Errorf("status of removed node %d: %+v", id, s)
		}
		c.stop(id)
	}
	before := l.acknowledged.Load()
	c.within("the load goes on", func() bool { return l.acknowledged.Load() > before+100 })
	acknowledged, atMost := l.end()
	l.checkLinear(t)
	if got := c.agree(); got < acknowledged || got > atMost {
		t.Errorf("total %d, acknowledged %d, at most %d", got, acknowledged, atMost)
	}
	sum := c.agree() // what is still unknown may yet come
	// All of them come back with the members they have now, and none with those of its options.
	for _, id := range []uint64{3, 4, 5} {
		c.stop(id)
	}
	for _, id := range []uint64{3, 4, 5} {
		c.start(id)
	}
	c.ready()
	if got := c.add(5, 1); got <= sum || got > atMost+1 {
		t.Errorf("total %d after a restart of all, want %d to %d", got, sum+1, atMost+1)
	}
	for id, g := range c.groups {
		m := g.Membership()
		wantMembers(t, m, []uint64{3, 4, 5}, nil)
		if member, _ := m.Member(4); member.Address != four.Address || member.Incarnation == 0 {
			t.Errorf("node %d knows node 4 as %+v", id, member)
		}
	}
}

func TestChangeOnAnotherVersionIsAConflict(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	before := c.registered().Version
	four := c.join(4)
	c.change(1, node.Change{Version: before, Learn: []node.Member{four}})
	_, err := c.groups[2].Change(background(t), node.Change{Version: before, Remove: []uint64{4}}, nil)
	if !errors.Is(err, node.ErrConflict) || node.OutcomeOf(err) != node.NotApplied {
		t.Errorf("a change decided on an older version: %v, want ErrConflict", err)
	}
	m := c.groups[c.leader()].Membership()
	wantMembers(t, m, []uint64{1, 2, 3}, []uint64{4})
	wantMembers(t, c.change(2, node.Change{Version: m.Version, Remove: []uint64{4}}),
		[]uint64{1, 2, 3}, nil)
}

func TestChangesThatCannotBe(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	two := c.options.Members[1]
	cases := map[string]struct {
		change node.Change
		say    string
	}{
		"nothing":    {node.Change{}, "changes nothing"},
		"no address": {node.Change{Add: []node.Member{{ID: 4}}}, "no address"},
		"id 0":       {node.Change{Remove: []uint64{0}}, "ids are"},
		"itself": {node.Change{Add: []node.Member{two}, Remove: []uint64{2}},
			"never used again"},
		"another's address": {node.Change{Add: []node.Member{{ID: 4, Address: two.Address}}},
			"node 2 is at"},
		"another address": {node.Change{Add: []node.Member{{ID: 2, Address: "127.0.0.1:1"}}},
			"readdress"},
		"a learner that votes": {node.Change{Learn: []node.Member{two}}, "is a voter"},
		"an unknown learner":   {node.Change{Promote: []uint64{7}}, "no member"},
		"an unknown address": {node.Change{Readdress: []node.Member{{ID: 7, Address: "x:1"}}},
			"no member"},
		"everybody": {node.Change{Remove: []uint64{1, 2, 3}}, "leaves no voter"},
	}
	for name, test := range cases {
		_, err := c.groups[1].Change(background(t), test.change, nil)
		if !errors.Is(err, node.ErrInvalidChange) || !strings.Contains(err.Error(), test.say) {
			t.Errorf("%s: %v, want ErrInvalidChange with %q", name, err, test.say)
		}
	}
	m := c.change(1, node.Change{Add: []node.Member{two}})
	wantMembers(t, m, []uint64{1, 2, 3}, nil)
}

// With one of three down, removing another would leave two voters of which one answers.
func TestRemovalThatLosesTheQuorumIsRefused(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	c.registered()
	leader := c.leader()
	var others []uint64
	for id := range c.groups {
		if id != leader {
			others = append(others, id)
		}
	}
	c.stop(others[0])
	_, err := c.groups[leader].Change(background(t), node.Change{Remove: []uint64{others[1]}}, nil)
	if !errors.Is(err, node.ErrNoQuorum) {
		t.Fatalf("removing one of the two that run: %v, want ErrNoQuorum", err)
	}
	silent := fmt.Sprintf("these are silent: [%d]", others[0])
	for _, want := range []string{silent, fmt.Sprintf("node %d is a voter", others[1])} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	// The one that is down can be removed.
	m := c.change(leader, node.Change{Remove: []uint64{others[0]}})
	want := []uint64{leader, others[1]}
	slices.Sort(want)
	wantMembers(t, m, want, nil)
	c.add(leader, 1)
	// It does not know that, and is told.
	c.start(others[0])
	c.within("the removed node knows it", func() bool {
		return errors.Is(c.groups[others[0]].Ready(), node.ErrRemoved)
	})
}

func TestRemovedLeaderHandsOver(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	leader := c.leader()
	var phases []node.Phase
	_, err := c.groups[leader].Change(background(t), node.Change{Remove: []uint64{leader}},
		func(p node.ChangeProgress) { phases = append(phases, p.Phase) })
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(phases, node.PhaseTransferring) {
		t.Errorf("phases %v without a transfer", phases)
	}
	c.within("the removed node knows it", func() bool {
		return errors.Is(c.groups[leader].Ready(), node.ErrRemoved)
	})
	if _, err := c.groups[leader].Propose(background(t), number(1)); !errors.Is(err, node.ErrRemoved) {
		t.Errorf("a command on the removed node: %v, want ErrRemoved", err)
	}
	// It disturbs nobody, and a restart changes nothing.
	c.stop(leader)
	c.start(leader)
	c.within("the removed node knows it after a restart", func() bool {
		return errors.Is(c.groups[leader].Ready(), node.ErrRemoved)
	})
	term := c.groups[c.leader()].Status().Term
	c.add(c.leader(), 1)
	if now := c.groups[c.leader()].Status().Term; now != term {
		t.Errorf("the term went from %d to %d with a removed node around", term, now)
	}
}

// All voters are replaced in one change: the new ones vote first, then one of them leads, then the
// old ones leave.
func TestAllVotersAreReplaced(t *testing.T) {
	c := newTestCluster(t, 1, nil)
	c.ready()
	c.add(1, 7)
	m := c.change(1, node.Change{Add: []node.Member{c.join(2), c.join(3), c.join(4)},
		Remove: []uint64{1}})
	wantMembers(t, m, []uint64{2, 3, 4}, nil)
	c.stop(1)
	if got := c.add(3, 1); got != 8 {
		t.Errorf("total %d, want 8", got)
	}
}

// A node whose directory was lost is refused under its id, and says so; a new one takes its place,
// at the same address.
func TestWipedNodeIsRefusedAndReplaced(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	c.registered()
	lost, late := c.follower(), uint64(0)
	for id := range c.groups {
		if id != lost && id != c.leader() {
			late = id
		}
	}
	c.stop(late)
	for range 5 {
		c.add(c.leader(), 1) // with the help of the one that is lost
	}
	c.stop(lost)
	if err := os.RemoveAll(c.nodeOptions(lost).Dir); err != nil {
		t.Fatal(err)
	}
	c.start(lost)
	want := fmt.Sprintf("connect member replace %d=", lost)
	c.within("the wiped node says that it is refused", func() bool {
		err := c.groups[lost].Ready()
		return errors.Is(err, node.ErrRefused) && strings.Contains(err.Error(), want)
	})
	if s := c.groups[lost].Status(); s.Role != "absent" || !strings.Contains(s.Absent, want) {
		t.Errorf("status %+v does not name the command", s)
	}
	// What the lost node had acknowledged, the leader has; the late one makes the majority.
	c.stop(lost)
	c.start(late)
	c.joining[4] = node.Member{ID: 4, Address: c.options.Members[lost-1].Address}
	c.start(4)
	m := c.change(late, node.Change{Add: []node.Member{c.joining[4]}, Remove: []uint64{lost}})
	if len(m.Voters) != 3 || slices.Contains(ids(m.Voters), lost) {
		t.Errorf("members: %s", &m)
	}
	c.ready()
	if got := c.agree(); got != 5 {
		t.Errorf("total %d, want 5", got)
	}
}

func TestReaddressedNodeComesBack(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	moved := c.follower()
	c.stop(moved)
	c.add(c.leader(), 1)
	to := c.newMember(moved)
	m := c.change(c.leader(), node.Change{Readdress: []node.Member{to}})
	if is, _ := m.Member(moved); is.Address != to.Address {
		t.Errorf("the membership has node %d at %s, want %s", moved, is.Address, to.Address)
	}
	c.start(moved)
	c.ready()
	if got := c.agree(); got != 1 {
		t.Errorf("total %d, want 1", got)
	}
}

func TestLearnerServesReads(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	m := c.change(2, node.Change{Learn: []node.Member{c.join(4)}})
	wantMembers(t, m, []uint64{1, 2, 3}, []uint64{4})
	c.ready()
	for n := range uint64(10) {
		if got := c.add(4, 1); got != n+1 {
			t.Fatalf("total %d through the learner, want %d", got, n+1)
		}
		r, err := c.groups[4].Read(background(t), nil, node.Linearizable)
		if err != nil || total(r.Answer) != n+1 {
			t.Fatalf("the learner reads %d, %v, want %d", total(r.Answer), err, n+1)
		}
	}
	if role := c.groups[4].Status().Role; role != "learner" {
		t.Errorf("role %s, want learner", role)
	}
	wantMembers(t, c.change(4, node.Change{Promote: []uint64{4}}), []uint64{1, 2, 3, 4}, nil)
}

// A promotion that cannot finish says how far it is, and what stands.
func TestUnfinishedChangeSaysWhatStands(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	four := c.newMember(4) // and it does not run
	for range 6 {
		if _, err := c.groups[1].Propose(background(t), make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, end := context.WithCancelCause(t.Context())
	_, err := c.groups[1].Change(ctx, node.Change{Add: []node.Member{four}},
		func(p node.ChangeProgress) {
			if p.Phase == node.PhaseCatchingUp && len(p.Now.Learners) == 1 {
				end(context.DeadlineExceeded)
			}
		})
	e, ok := errors.AsType[*node.ChangeError](err)
	if !ok || !errors.Is(err, context.DeadlineExceeded) || e.Phase != node.PhaseCatchingUp {
		t.Fatalf("the change ended with %v", err)
	}
	for _, want := range []string{"node 4 is not connected", "node 4 is a learner", "again"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	wantMembers(t, e.Now, []uint64{1, 2, 3}, []uint64{4})
	if len(e.Members) != 1 || e.Members[0].Bytes < 6<<20 || e.Members[0].Entries < 6 {
		t.Errorf("6 MiB in 6 entries behind are shown as %+v", e.Members)
	}
	c.start(4)
	wantMembers(t, c.change(2, node.Change{Add: []node.Member{four}}), []uint64{1, 2, 3, 4}, nil)
}

// The leader is killed at every phase of a change; the change finishes all the same.
func TestChangeSurvivesItsLeaders(t *testing.T) {
	for _, phase := range []node.Phase{node.PhaseAdding, node.PhaseCatchingUp, node.PhaseSwitching} {
		t.Run(string(phase), func(t *testing.T) {
			c := newTestCluster(t, 3, nil)
			c.ready()
			asked := c.follower()
			four, five := c.join(4), c.join(5)
			killed := uint64(0)
			var kills sync.WaitGroup
			m, err := c.groups[asked].Change(background(t),
				node.Change{Add: []node.Member{four, five}}, func(p node.ChangeProgress) {
					if p.Phase == phase && killed == 0 {
						killed = c.otherThan(asked)
						n := c.nodes[killed]
						kills.Go(func() { n.Close() })
					}
				})
			kills.Wait()
			if err != nil {
				t.Fatal(err)
			}
			wantMembers(t, m, []uint64{1, 2, 3, 4, 5}, nil)
			if killed == 0 {
				t.Fatal("no leader was killed")
			}
			c.stop(killed)
			c.add(asked, 1)
			c.start(killed)
			c.ready()
			for _, g := range c.groups {
				c.within("every node knows the members", func() bool {
					m := g.Membership()
					return len(m.Voters) == 5 && !m.Joint
				})
			}
		})
	}
}

// otherThan waits until another voter of the first three than this one leads, and has it do so if need
// be, and returns it.
func (c *testCluster) otherThan(id uint64) (leader uint64) {
	c.t.Helper()
	c.within("another node leads", func() bool {
		if leader = c.leader(); leader == id {
			_ = c.groups[id].Transfer(background(c.t), id%3+1) // it may fail on a slow machine
		}
		return leader != id
	})
	return leader
}

func TestTransferSaysHowItEnds(t *testing.T) {
	c := newTestCluster(t, 3, nil)
	c.ready()
	for range 3 {
		to := c.follower()
		// Asked on the node that is to lead, on the one that does, and on the third.
		for at := range c.groups {
			c.within(fmt.Sprintf("node %d leads, asked on node %d", to, at), func() bool {
				err := c.groups[at].Transfer(background(t), to)
				if err != nil && !errors.Is(err, node.ErrTransferFailed) { // on a slow machine
					t.Fatal(err)
				}
				return err == nil
			})
		}
		if leader := c.leader(); leader != to {
			t.Errorf("node %d leads, want %d", leader, to)
		}
	}
	leader := c.leader()
	err := c.groups[leader].Transfer(background(t), 9)
	if !errors.Is(err, node.ErrInvalidChange) {
		t.Errorf("a transfer to a node that is none: %v, want ErrInvalidChange", err)
	}
	down := c.follower()
	c.stop(down)
	err = c.groups[c.leader()].Transfer(background(t), down)
	if !errors.Is(err, node.ErrTransferFailed) {
		t.Errorf("a transfer to a node that is down: %v, want ErrTransferFailed", err)
	}
	c.add(leader, 1)
}
