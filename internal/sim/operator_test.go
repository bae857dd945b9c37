package sim_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/node"
)

// The operator changes the members of groups while everything else goes on, one step at a time, as
// node/plan.go would and in ways that it would not: with versions that are outdated, on nodes that do
// not lead, several at once. It never makes a configuration that cannot bear the disks that have lost
// what they had promised.

// change is one change on its way.
type change struct {
	w       *world
	id      uint64
	group   *groupOracle
	version uint64
	conf    *pb.ConfChangeV2
	data    []byte
	at      *group // that was asked

	ended, refused bool
	err            error
	index          uint64 // of its entry, 0 = none is committed
	effective      bool   // that entry has changed something
}

var _ replica.Change = (*change)(nil)

func (c *change) ConfChange() *pb.ConfChangeV2 { return c.conf }
func (c *change) Version() uint64              { return c.version }

// end is the word of the replica that was asked that the change is not applied there.
func (c *change) end(err error, isUnknown bool) {
	c.finish()
	c.err, c.refused = err, !isUnknown
	c.w.trace.say("change %d: %v", c.id, err)
	c.w.trace.note("change refused", c.at.p.h.id, c.group.id, c.id, boolWord(isUnknown))
	if c.refused && c.effective {
		c.w.violated("membership", "change %d of group %d is refused (%v), entry %d has it", c.id,
			c.group.id, err, c.index)
	}
	if c.at.failed != nil && errors.Is(err, node.ErrGroupFailed) {
		c.w.goOn(c)
		return
	}
	for _, known := range []error{replica.ErrConflict, replica.ErrChangePending, replica.ErrNoQuorum,
		replica.ErrInvalidChange, replica.ErrNotLeader, replica.ErrTransferFirst,
		replica.ErrOverwritten, node.ErrRemoved} {
		if isUnknown || errors.Is(err, known) {
			c.w.goOn(c)
			return
		}
	}
	c.w.violated("membership", "change %d of group %d ends with %v", c.id, c.group.id, err)
}

// applied is the word that the change is applied.
func (c *change) applied(index uint64) {
	c.finish()
	c.w.stats.changes++
	c.w.trace.note("change applied", c.at.p.h.id, c.group.id, c.id, index)
	if c.index != index || !c.effective {
		c.w.violated("membership", "change %d of group %d is said to be entry %d, the log has it at %d",
			c.id, c.group.id, index, c.index)
	}
	c.w.goOn(c)
}

// goOn has the operator do something more after a change has ended, as a rule when it was refused.
func (w *world) goOn(c *change) {
	r := w.rng.check
	if w.healed || r.IntN(3) == 0 {
		return
	}
	w.after(w.between(10*time.Millisecond, 500*time.Millisecond), func() {
		if !w.healed {
			w.changeGroup(c.group, r)
		}
	})
}

func (c *change) finish() {
	if c.ended {
		c.w.violated("membership", "change %d of group %d ends twice", c.id, c.group.id)
	}
	c.ended = true
}

// tagBase is from where on the ids of members are tags of changes. Nobody has them, so they never get
// into a directory.
const tagBase = 1 << 40

// tagOf returns the change that has made an entry, nil for those that raft makes to leave a joint
// configuration.
func (o *groupOracle) tagOf(data []byte) *change {
	for _, m := range namedIn(data) {
		if m.ID > tagBase {
			return o.w.changes[m.ID-tagBase-1]
		}
	}
	return nil
}

// operate has one change made, or asked for.
func (w *world) operate(r *rand.Rand) {
	for range choose(r, 1, 1, 1, 2, 3) {
		w.changeGroup(w.oracle.groups[r.IntN(len(w.oracle.groups))], r)
	}
}

func (w *world) changeGroup(o *groupOracle, r *rand.Rand) {
	view := o.now()
	if r.IntN(10) == 0 && len(o.configs) > 1 {
		view = &o.configs[len(o.configs)-2]
	}
	steps := w.decide(o, view.state, r)
	if len(steps) == 0 {
		return
	}
	version := view.index
	if r.IntN(5) == 0 && !slices.ContainsFunc(steps, changesVoters) {
		version = 0
	}
	w.ask(o, steps, version, r)
}

func changesVoters(s *pb.ConfChangeSingle) bool {
	return s.GetType() != pb.ConfChangeAddLearnerNode && s.GetType() != pb.ConfChangeUpdateNode
}

// decide draws what is to change.
func (w *world) decide(o *groupOracle, s *pb.ConfState, r *rand.Rand) (steps []*pb.ConfChangeSingle) {
	add := func(kind pb.ConfChangeType, from []uint64) {
		if len(from) > 0 {
			steps = append(steps, single(kind, from[r.IntN(len(from))]))
		}
	}
	var fresh []uint64
	for _, h := range w.hosts {
		if !o.used[h.id] && !h.lost {
			fresh = append(fresh, h.id)
		}
	}
	voters, learners := s.GetVoters(), s.GetLearners()
	switch n := r.IntN(20); {
	case n < 6: // somebody comes
		add(pb.ConfChangeAddLearnerNode, fresh)
		if n < 2 {
			add(pb.ConfChangeAddLearnerNode, fresh)
		}
	case n < 10: // a learner gets a vote
		add(pb.ConfChangeAddNode, learners)
	case n < 13: // and takes the place of a voter
		add(pb.ConfChangeAddNode, learners)
		add(pb.ConfChangeRemoveNode, voters)
	case n < 15:
		add(pb.ConfChangeRemoveNode, voters)
	case n < 16:
		add(pb.ConfChangeRemoveNode, learners)
	case n < 17:
		add(pb.ConfChangeUpdateNode, allIDs(s))
	case n < 18: // without learning before
		add(pb.ConfChangeAddNode, fresh)
	default: // anything
		for range 1 + r.IntN(4) {
			add(choose(r, pb.ConfChangeAddNode, pb.ConfChangeAddLearnerNode,
				pb.ConfChangeRemoveNode), slices.Concat(allIDs(s), fresh))
		}
	}
	return steps
}

func single(kind pb.ConfChangeType, id uint64) *pb.ConfChangeSingle {
	return &pb.ConfChangeSingle{Type: &kind, NodeId: &id}
}

// ask gives a change to a node.
func (w *world) ask(o *groupOracle, steps []*pb.ConfChangeSingle, version uint64, r *rand.Rand) {
	c := &change{w: w, id: uint64(len(w.changes) + 1), group: o, version: version,
		conf: &pb.ConfChangeV2{Changes: steps}}
	if r.IntN(10) == 0 {
		c.conf.Transition = pb.ConfChangeTransitionJointImplicit.Enum()
	}
	members := []apply.Member{{ID: tagBase + c.id}}
	for _, s := range steps {
		if s.GetType() != pb.ConfChangeRemoveNode {
			members = append(members, apply.Member{ID: s.GetNodeId(),
				Address: "host" + idString(s.GetNodeId()) + "." + idString(c.id), Incarnation: c.id})
		}
	}
	c.conf.Context = apply.AppendMembers(nil, members)
	data, err := proto.Marshal(c.conf)
	if err != nil {
		w.violated("membership", "a change is not encoded: %v", err)
	}
	c.data = data
	at := w.someGroup(o.id, r)
	if at == nil || !w.bearable(c) {
		return
	}
	c.at = at
	w.changes = append(w.changes, c)
	o.asked = append(o.asked, c)
	for _, s := range steps {
		if s.GetType() != pb.ConfChangeRemoveNode {
			o.used[s.GetNodeId()] = true
			w.host(s.GetNodeId()).start(w.between(0, time.Second))
		}
	}
	w.trace.note("change", at.p.h.id, o.id, c.id, version)
	w.trace.say("change %d, version %d: %v", c.id, version, steps)
	at.post(func(in *contents) {
		in.events = append(in.events, func(core *replica.Replica) { core.ChangeMembers(c) })
	})
}

// bearable reports whether a majority of whole disks is left behind the change, whatever it meets.
func (w *world) bearable(c *change) bool {
	for _, s := range c.group.possible() {
		next, err := changed(s, c.data)
		if err != nil {
			continue
		}
		if !majority(next, func(id uint64) bool { return w.host(id).counts(c.group.id) }) {
			return false
		}
	}
	return true
}

// isBroken reports whether nobody may count on what the host has promised to a group.
func (h *host) isBroken(group uint64) bool { return h.lost || h.weak[group] }

// counts reports whether a group can count on the host: its disk is whole, and it has something. One
// that has joined votes for nobody before it has got a snapshot.
func (h *host) counts(group uint64) bool {
	v := h.promised[group]
	return !h.isBroken(group) && (h.isFirst() || v != nil && v.last() > 0)
}

// someGroup is whom the operator asks: the leader as a rule.
func (w *world) someGroup(id uint64, r *rand.Rand) *group {
	var all []*group
	var leader *group
	for _, h := range w.hosts {
		if h.proc == nil || !h.proc.opened || h.proc.failed != nil {
			continue
		}
		g := h.proc.group(id)
		if g.core == nil || g.failed != nil {
			continue
		}
		all = append(all, g)
		if g.role == raft.StateLeader && (leader == nil || leader.term < g.term) {
			leader = g
		}
	}
	if leader != nil && r.IntN(10) > 0 {
		return leader
	}
	if len(all) == 0 {
		return nil
	}
	return all[r.IntN(len(all))]
}

// move has a leader transfer its leadership to somebody, whoever that is. Sometimes the leader loses its
// connections meanwhile.
func (w *world) move(f fault, r *rand.Rand) {
	id := uint64(1 + r.IntN(len(w.oracle.groups)))
	g := w.someGroup(id, r)
	if g == nil {
		return
	}
	targets := allIDs(w.oracle.group(id).now().state)
	to := targets[r.IntN(len(targets))]
	g.note("transfer", to)
	if r.IntN(3) == 0 {
		f.kind, f.node = choose(r, faultIsolate, faultOneWay), g.p.h.id
		w.after(w.between(0, 10*time.Millisecond), func() {
			if !w.healed {
				w.injectLinks(f, r)
			}
		})
	}
	g.post(func(in *contents) {
		in.events = append(in.events, func(core *replica.Replica) {
			err := core.Transfer(to)
			switch {
			case err == nil:
				g.transfer, g.transferTicks, g.transferTerm = to, 0, core.Status().Term
			case errors.Is(err, replica.ErrNotLeader), errors.Is(err, replica.ErrTransferTarget),
				errors.Is(err, replica.ErrTransferPending):
			default:
				w.violated("transfer", "a transfer of group %d to node %d is refused: %v", id, to, err)
			}
		})
	})
}

// endTransfer looks at the end of a transfer.
func (g *group) endTransfer(end *replica.TransferEnd) {
	g.note("transferred", end.To, boolWord(end.Err == nil))
	if g.transfer != 0 && g.transfer != end.To {
		g.w.violated("transfer", "node %d, group %d: a transfer to node %d ends, asked was for %d",
			g.p.h.id, g.id, end.To, g.transfer)
	}
	g.transfer = 0
	if end.Err == nil {
		g.w.stats.transfers++
		g.checkTakenOver(end.To)
	}
}

// checkTakenOver: whoever is said to have taken over has led since the transfer began. Somebody else
// may lead by now.
func (g *group) checkTakenOver(to uint64) {
	leaders, s := g.w.oracle.group(g.id).leaders, g.core.Status()
	for term := g.transferTerm + 1; term <= s.Term; term++ {
		if leaders[term].node == to {
			return
		}
	}
	g.w.violated("transfer", "node %d, group %d: node %d is said to have taken over, node %d leads",
		g.p.h.id, g.id, to, s.Leader)
}

// tickTransfer holds a transfer against its limit of two election timeouts. How it ended comes with the
// next Ready, which the worker does not take while there is no room in the Ready channel. Those ticks
// count, so a core that has not ended it by the first one behind them is late.
func (g *group) tickTransfer() {
	if g.transfer == 0 {
		return
	}
	g.transferTicks++
	if !g.waits && g.transferTicks > 2*g.w.plan.config.electionTicks+2 {
		g.w.violated("transfer", "node %d, group %d: a transfer to node %d has not ended for %d ticks",
			g.p.h.id, g.id, g.transfer, g.transferTicks)
	}
}

// replaceLost has the members that are lost for good removed, as an operator must.
func (w *world) replaceLost() {
	w.giveUpStuck()
	for _, o := range w.oracle.groups {
		s := o.now().state
		if len(s.GetVotersOutgoing()) > 0 {
			continue
		}
		var steps []*pb.ConfChangeSingle
		for _, id := range allIDs(s) {
			if w.host(id).lost {
				steps = append(steps, single(pb.ConfChangeRemoveNode, id))
			}
		}
		if len(steps) > 0 {
			w.ask(o, steps, o.now().index, w.rng.check)
		}
	}
}
