package sim_test

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/connectraft/connect/internal/apply"
)

// liveness is the phase without new faults. First a quorum is healed and the rest stays broken:
// within ten election timeouts every group has a leader again and serves on every node of the
// quorum. Then all are healed, and become equal.
func (w *world) liveness() {
	w.healed = true
	w.trace.say("liveness")
	core := w.pickCore()
	w.breakRest(core)
	w.heal(core)
	if core != nil {
		w.awaitProgress(core)
	}
	w.heal(w.hosts)
	for i := range w.net.cut {
		clear(w.net.cut[i])
		clear(w.net.clog[i])
	}
	w.stopClients()
	w.awaitConvergence()
}

// awaitConvergence waits until all are idle and equal. The operator replaces members that can never
// come back. One that waits for somebody who was removed, and who may yet learn of it and tell how
// far it was, gets its time before it is replaced too.
func (w *world) awaitConvergence() {
	done := func() string {
		w.replaceLost()
		if why := w.idle(); why != "" {
			return why
		}
		return w.equal()
	}
	why := w.wait(w.hosts, done)
	if why != "" {
		w.impatient = true
		if w.giveUpStuck() {
			why = w.wait(w.hosts, done)
		}
	}
	w.late("convergence", why)
}

func (w *world) stopClients() {
	for _, c := range w.people {
		c.stopped = true
	}
}

// awaitProgress waits until every node of the core serves. Where one small entry takes the time of
// several round trips, the clients may keep so many commands waiting that a node's own one is always
// behind more than can be done before its deadline, with a leader that all follow. That is load and no
// group that stands still: then the clients stop, and there is as much time again.
func (w *world) awaitProgress(core []*host) {
	serves := w.serves(core)
	why := w.wait(core, serves)
	if why != "" && w.down(core) == "" && w.leaderless(core) == "" {
		w.trace.say("the clients stop: %s", why)
		w.stopClients()
		why = w.wait(core, serves)
	}
	w.late("progress", why)
}

// pickCore chooses a quorum, in every group and whatever change may be under way, of nodes whose
// disks have kept their promises.
func (w *world) pickCore() []*host {
	var core []*host
	for _, i := range w.rng.check.Perm(len(w.hosts)) {
		if h := w.hosts[i]; !h.isWeak() && !h.lost {
			core = append(core, h)
		}
		if w.holds(func(h *host, group uint64) bool {
			return slices.Contains(core, h) && h.counts(group)
		}) {
			return core
		}
	}
	return nil
}

// breakRest breaks everybody else for good: dead, cut off, or deaf.
func (w *world) breakRest(core []*host) {
	inCore := map[*host]bool{}
	for _, h := range core {
		inCore[h] = true
	}
	for i := range w.net.cut {
		clear(w.net.cut[i])
		clear(w.net.clog[i])
	}
	for _, h := range w.hosts {
		if inCore[h] {
			continue
		}
		how := w.rng.check.IntN(4)
		w.trace.note("broken", h.id, 0, uint64(how))
		if how == 0 {
			h.crash(true)
			h.permanent = true
			continue
		}
		for _, other := range w.hosts {
			if how&1 != 0 {
				w.net.cut[h.id][other.id] = 1
			}
			if how&2 != 0 {
				w.net.cut[other.id][h.id] = 1
			}
		}
	}
}

// heal ends what is wrong with nodes, but for their connections.
func (w *world) heal(hosts []*host) {
	w.net.quiet = true
	for _, h := range hosts {
		h.pausedUntil, h.stalledUntil, h.crashStart = min(h.pausedUntil, w.now), 0, 0
		h.deaths = nil
		h.giveRoom()
		h.setClock(1, 0)
		h.permanent = false
		h.disarmAll()
		if h.proc != nil && h.proc.crippled() {
			h.crash(false) // a group that stopped because of its disk stays so until a restart
		}
		h.finishUpgrade()
		h.start(0)
	}
}

// crippled says that a group of the process has stopped.
func (p *process) crippled() bool {
	return slices.ContainsFunc(p.groups, func(g *group) bool { return g.failed != nil })
}

// disarmAll ends the faults of the disk.
func (h *host) disarmAll() {
	for _, remove := range h.disarm {
		remove()
	}
	h.disarm = nil
}

// late fails when why is not empty.
func (w *world) late(what, why string) {
	if why != "" {
		w.violated(what, "%v after healing: %s", w.patience(), why)
	}
}

// patience is ten election timeouts, at their longest.
func (w *world) patience() time.Duration { return 10 * 2 * w.plan.config.electionTime() }

// wait runs until done is content, for ten election timeouts after everybody has started, and returns
// what is still amiss.
func (w *world) wait(hosts []*host, done func() string) (why string) {
	deadline := w.now + int64(w.patience()+5*time.Second)
	for w.now < deadline {
		w.runUntil(w.now + int64(100*time.Millisecond))
		if why = w.down(hosts); why == "" {
			why = done()
		}
		if why == "" {
			return ""
		}
	}
	return why
}

func (w *world) down(hosts []*host) string {
	for _, h := range hosts {
		if h.proc == nil && !h.lost {
			return "node " + idString(h.id) + " does not start"
		}
	}
	return ""
}

// serves returns a condition: each group has one leader that all of core follow, and every node of
// core has answered a command and a read since.
func (w *world) serves(core []*host) func() string {
	type goal struct {
		host, group uint64
		read        bool
		open, met   bool
	}
	var goals []*goal
	for _, h := range core {
		for id := range w.plan.config.groups {
			goals = append(goals, &goal{host: h.id, group: uint64(id + 1)},
				&goal{host: h.id, group: uint64(id + 1), read: true})
		}
	}
	return func() string {
		why := w.leaderless(core)
		for _, g := range goals {
			if g.met || !isMember(w.oracle.group(g.group).now().state, g.host) {
				continue
			}
			if why == "" {
				why = "node " + idString(g.host) + " does not serve group " + idString(g.group)
			}
			if !g.open {
				g.open = true
				w.oracle.begin(g.host, g.group, g.read, false, 2*w.plan.config.electionTime(),
					func(o *op) { g.open, g.met = false, o.err == nil })
			}
		}
		return why
	}
}

func (w *world) leaderless(core []*host) string {
	for id := range w.plan.config.groups {
		leader, first := uint64(raft.None), true
		members := w.oracle.groups[id].now().state
		for _, h := range core {
			if h.lost || !isMember(members, h.id) {
				continue
			}
			g := h.proc.group(uint64(id + 1))
			if g.core == nil {
				return "group " + idString(g.id) + " does not begin on node " + idString(h.id)
			}
			s := g.core.Status()
			if first {
				leader, first = s.Leader, false
			}
			if s.Leader == raft.None || s.Leader != leader {
				return "group " + idString(g.id) + " has no leader that all follow"
			}
		}
	}
	return ""
}

// snapshotOf is everything that a stage holds.
func snapshotOf(s *apply.Stage) []byte {
	var b bytes.Buffer
	if err := s.Snapshot(&b); err != nil {
		panic(err) // neither the machine of the simulation nor the buffer fails
	}
	return b.Bytes()
}

// idle says what is not finished.
func (w *world) idle() string {
	if n := len(w.oracle.open); n > 0 {
		return idString(uint64(n)) + " operations are open, the first is " +
			idString(w.oracle.open[0].id)
	}
	for _, c := range w.changes {
		if !c.ended && !c.at.p.dead && c.at.failed == nil {
			return "change " + idString(c.id) + " is open"
		}
	}
	for _, h := range w.hosts {
		p := h.proc
		if p == nil {
			continue // lost
		}
		if len(p.relays.out) > 0 || len(p.appender.queue) > 0 || p.unread > 0 {
			return "node " + idString(h.id) + " has something in its queues"
		}
		for _, g := range p.groups {
			if g.core == nil && !isMember(w.oracle.group(g.id).now().state, h.id) {
				continue // it waits to be added again, or to be stopped
			}
			if g.core == nil {
				return fmt.Sprintf("group %d of node %d has not begun", g.id, h.id)
			}
			if queued := g.core.Status().Queued; g.inflight > 0 || queued > 0 {
				return fmt.Sprintf("group %d of node %d has %d calls in flight and %d in the queue", g.id,
					h.id, g.inflight, queued)
			}
		}
	}
	return ""
}

// equal says where nodes differ.
func (w *world) equal() string {
	if why := w.leaderless(w.hosts); why != "" {
		return why
	}
	for _, o := range w.oracle.groups {
		for _, h := range w.hosts {
			if h.lost && isMember(o.now().state, h.id) {
				return "group " + idString(o.id) + " still has node " + idString(h.id) + ", which is lost"
			}
			if !isMember(o.now().state, h.id) {
				continue
			}
			g := h.proc.group(o.id)
			if g.apply.applied != o.last() || g.handed.last() != o.last() {
				return "group " + idString(o.id) + " of node " + idString(h.id) + " is behind"
			}
			if o.last() >= firstIndex && g.apply.machine.hash() != o.states[len(o.states)-1] {
				return "group " + idString(o.id) + " of node " + idString(h.id) + " is different"
			}
			if !bytes.Equal(snapshotOf(g.apply.stage), snapshotOf(o.stage)) {
				return "group " + idString(o.id) + " of node " + idString(h.id) + " has other sessions"
			}
			if g.outside() {
				return fmt.Sprintf("node %d believes that it was removed from group %d", h.id, o.id)
			}
			if s := g.core.Status(); s.Fenced {
				return "group " + idString(o.id) + " of node " + idString(h.id) + " is fenced"
			}
		}
	}
	return ""
}
