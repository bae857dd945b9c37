package sim_test

import (
	"errors"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/wal"
)

const (
	mendBytesMax  = 32 << 20
	askAgainTicks = 10
)

// mender is the twin of node/mend.go and node/mendquorum.go: it asks the peers on behalf of a damaged group before the
// group takes part in anything. Its frames travel as values. The loops of production are states
// here, and look is a turn of the loop that is under way.
type mender struct {
	g       *group
	entries [][]*pb.Entry // answers about the present hole, by peer
	have    []bool        // whether there is one in entries that was not looked at
	cannot  []bool        // peers that cannot fill the present hole
	terms   []position    // answers, by peer
	told    []bool        // whether there is one in terms

	damage  *wal.DamageError // the hole being filled; nil while asking for terms
	tick    int              // turns of the present loop
	woken   bool
	done    bool
	waiting uint64 // counts waits, so that only the latest timer counts
}

func newMender(g *group) *mender {
	n := len(g.w.hosts) + 1
	return &mender{g: g, entries: make([][]*pb.Entry, n), have: make([]bool, n),
		cannot: make([]bool, n), terms: make([]position, n), told: make([]bool, n)}
}

// position is position of node/mend.go.
type position struct {
	term, last uint64
	members    *pb.ConfState
}

func (p position) isNew() bool { return p.term <= 1 && p.last <= 1 }

func (p position) hasBegun() bool { return p.term >= 1 }

// run is mender.run: it goes on with the next hole, with the terms, or to the group's beginning.
func (m *mender) run() {
	if m.g.newcomer {
		m.loop()
		return
	}
	damage := m.g.wal.Damage()
	if damage == nil {
		m.finish(0)
		return
	}
	m.g.note("mend", damage.FirstIndex, damage.Resume)
	m.tick = 0
	clear(m.have)
	clear(m.cannot)
	m.damage = nil
	if damage.Resume != 0 {
		m.damage = damage
	}
	m.loop()
}

// enough is mender.enough.
func (m *mender) enough(has func(peer uint64) bool) bool {
	self := m.g.p.h.id
	for peer, p := range m.terms {
		if m.told[peer] && m.allTell(p.members) && !slices.ContainsFunc(
			othersWhoVote(p.members, self), func(id uint64) bool { return !has(id) }) {
			return true
		}
	}
	return meetsQuorums(m.configurations(), self, has)
}

// meetsQuorums is that of node/mendquorum.go.
func meetsQuorums(configurations []*pb.ConfState, self uint64, has func(peer uint64) bool) bool {
	for _, c := range configurations {
		voters, n := c.GetVoters(), 0
		need := len(voters) - (len(voters)/2 + 1) + 1
		for _, id := range voters {
			if id != self && has(id) {
				n++
			}
		}
		if len(voters) == 0 || n < need {
			return false
		}
	}
	return true
}

// allTell is that of node/mendquorum.go.
func (m *mender) allTell(c *pb.ConfState) bool {
	self := m.g.p.h.id
	voters := othersWhoVote(c, self)
	return isMember(c, self) && len(voters) > 0 && !slices.ContainsFunc(voters, func(id uint64) bool {
		return !m.told[id] || !isSame(m.terms[id].members, c)
	})
}

// othersWhoVote is that of node/mendquorum.go.
func othersWhoVote(c *pb.ConfState, self uint64) []uint64 {
	return slices.DeleteFunc(union(c.GetVoters(), c.GetVotersOutgoing()),
		func(id uint64) bool { return id == self })
}

// configurations is mender.configurations.
func (m *mender) configurations() []*pb.ConfState {
	list := []*pb.ConfState{m.g.knownMembers()}
	for peer, p := range m.terms {
		if m.told[peer] && len(p.members.GetVoters()) > 0 {
			list = append(list, p.members)
		}
	}
	return list
}

// isGone is mender.gone.
func (m *mender) isGone() bool {
	self, newest := m.g.p.h.id, position{}
	for peer, p := range m.terms {
		if m.told[peer] && len(p.members.GetVoters()) > 0 && p.last >= newest.last {
			newest = p
		}
	}
	if newest.members == nil || isMember(newest.members, self) {
		return false
	}
	m.g.learnGone()
	return true
}

// loop begins a turn: it ends the loop or asks, and waits for a tick or an answer.
func (m *mender) loop() {
	if m.done || m.g.p.failed != nil {
		return
	}
	if m.damage != nil && m.enough(func(id uint64) bool { return m.cannot[id] }) {
		m.g.note("nobody fills the hole")
		m.damage, m.tick = nil, 0
	}
	if m.damage == nil {
		if term, ok := m.highestTerm(); ok {
			m.finish(term)
			return
		}
	}
	if m.tick%askAgainTicks == 0 {
		m.ask()
	}
	m.tick++
	m.waiting++
	turn := m.waiting
	m.g.p.after(m.g.p.tickPeriod(), func() {
		if m.waiting == turn {
			m.look()
		}
	})
}

// highestTerm is a turn of mender.highestTerm.
func (m *mender) highestTerm() (term uint64, ok bool) {
	highest, begun := m.g.wal.State().Term, m.knowsBegun()
	for _, p := range m.terms {
		highest = max(highest, p.term)
	}
	enough := m.enough(func(id uint64) bool { return m.terms[id].hasBegun() })
	switch {
	case m.isGone():
	case m.g.newcomer && !begun && (enough || m.allAnswered()):
		return 0, true
	case enough && m.g.newcomer:
		return max(highest, 1), true
	case enough:
		return highest, true
	}
	return 0, false
}

// allAnswered is len(mender.missing()) == 0 of one that asks whether the cluster is new.
func (m *mender) allAnswered() bool {
	return !slices.ContainsFunc(m.configurations(), func(c *pb.ConfState) bool {
		return slices.ContainsFunc(othersWhoVote(c, m.g.p.h.id), func(id uint64) bool { return !m.told[id] })
	})
}

// knowsBegun is mender.knowsBegun.
func (m *mender) knowsBegun() bool {
	return m.g.gone || slices.ContainsFunc(m.terms, func(p position) bool { return !p.isNew() })
}

func (m *mender) ask() {
	from, id := m.g.p.h.id, m.g.id
	peers := m.g.p.connections()
	for _, c := range m.configurations() {
		peers = union(peers, allIDs(c))
	}
	for _, peer := range peers {
		if peer == from {
			continue
		}
		if m.damage != nil && !m.cannot[peer] {
			first, last := m.damage.FirstIndex, m.damage.Resume
			_ = m.g.w.net.sendRequest(m.g.p, peer, func(p *process) {
				p.group(id).serveFetch(from, first, last)
			})
		}
		_ = m.g.w.net.sendRequest(m.g.p, peer, func(p *process) { p.group(id).serveTerm(from) })
	}
}

// connections is Transport.Peers: whom the node dials, the first members by its options and all members
// that it knows, and who dials it. Whether the two reach each other shows when something is sent.
func (p *process) connections() (list []uint64) {
	for _, h := range p.w.hosts {
		dials := h.isFirst() || slices.Contains(p.peers(), h.id)
		isDialled := h.proc != nil && (p.h.isFirst() || slices.Contains(h.proc.peers(), p.h.id))
		if h != p.h && !p.refused[h.id] && (dials || isDialled) {
			list = append(list, h.id)
		}
	}
	return list
}

// answered is mender.answered.
func (m *mender) answered(note func()) {
	if m.done {
		return
	}
	note()
	if !m.woken {
		m.woken = true
		m.waiting++
		m.g.p.after(0, m.look)
	}
}

// look takes the answers after a wait.
func (m *mender) look() {
	m.woken = false
	if m.done || m.g.p.failed != nil {
		return
	}
	for peer := range m.have { // production goes over a map; the order does not matter
		if !m.have[peer] {
			continue
		}
		m.have[peer] = false
		if m.damage == nil {
			continue
		}
		if filled, err := m.try(uint64(peer), m.entries[peer]); err != nil {
			m.done = true
			m.g.p.fail(err)
			return
		} else if filled {
			m.run()
			return
		}
		m.cannot[peer] = true
	}
	m.loop()
}

// try is mender.tryEntries.
func (m *mender) try(peer uint64, entries []*pb.Entry) (bool, error) {
	if len(entries) == 0 {
		return false, nil
	}
	m.g.p.h.mending = append(m.g.p.h.mending, m.g.id)
	err := m.g.p.wal.Mend(m.g.id, entries)
	switch {
	case err == nil:
		m.g.note("mended", peer, entries[0].GetIndex(), entries[len(entries)-1].GetIndex())
		m.g.w.stats.mended++
		m.g.p.h.mended(m.g.id, m.g.wal)
		return true, nil
	case errors.Is(err, wal.ErrInvalid):
		m.g.w.trace.say("n%d g%d mend does not fit: %v", m.g.p.h.id, m.g.id, err)
		return false, nil
	}
	return false, err
}

func (m *mender) finish(fence uint64) {
	m.done = true
	if fence != 0 {
		m.g.w.stats.fenced++
	}
	if err := m.g.begin(fence); err != nil {
		m.g.p.fail(err)
	}
}

// serveTerm is Group.serveTerm.
func (g *group) serveTerm(from uint64) {
	var at position
	switch {
	case g.newcomer:
		if g.mender == nil || g.mender.knowsBegun() {
			return
		}
	case g.begun && !g.fenced && g.failed == nil && g.core != nil && g.unsettled == 0:
		at = position{g.core.Status().Term, g.wal.LastIndex(), g.conf}
	default:
		return
	}
	self, id := g.p.h.id, g.id
	_ = g.w.net.sendRequest(g.p, from, func(p *process) {
		if m := p.group(id).mender; m != nil {
			m.answered(func() {
				if at.term >= m.terms[self].term { // mender.noteLocked
					m.terms[self], m.told[self] = at, true
				}
			})
		}
	})
}

// serveFetch is Group.serveFetch.
func (g *group) serveFetch(from, first, last uint64) {
	entries, err := fetch(g.wal, first, last)
	if err != nil {
		g.w.trace.say("n%d g%d cannot help n%d: %v", g.p.h.id, g.id, from, err)
	}
	self, id := g.p.h.id, g.id
	_ = g.w.net.sendRequest(g.p, from, func(p *process) {
		if m := p.group(id).mender; m != nil {
			m.answered(func() { m.entries[self], m.have[self] = entries, true })
		}
	})
}

func fetch(log *wal.Group, first, last uint64) ([]*pb.Entry, error) {
	var entries []*pb.Entry
	for next := first; next <= last; {
		run, err := log.Entries(next, last+1, mendBytesMax)
		if err != nil {
			return nil, err
		}
		for _, e := range run {
			entries = append(entries, proto.CloneOf(e))
		}
		next += uint64(len(run))
	}
	return entries, nil
}

// giveUpStuck stops a member that waits for answers which never come, to be replaced as its Ready says
// (docs/operations.md): two that are damaged may wait for each other, and for one that is gone. It
// reports whether there was one.
func (w *world) giveUpStuck() bool {
	for _, o := range w.oracle.groups {
		tells := o.tellers()
		for _, h := range w.hosts {
			if h.proc != nil && isMember(o.now().state, h.id) && !tells[h.id] && h.mayWeaken() {
				h.note("stuck", o.id)
				h.crash(false)
				h.lost = true
				return true
			}
		}
	}
	return false
}

// tellers are the hosts that tell how far they are, now or when those that tell before them have: a
// member that is fenced when it has caught up, a mender when it has begun.
func (o *groupOracle) tellers() map[uint64]bool {
	tells := map[uint64]bool{}
	has := func(id uint64) bool { return tells[id] }
	now := o.now().state
	for grown := true; grown; {
		grown = false
		for _, h := range o.w.hosts {
			if h.proc == nil || tells[h.id] {
				continue
			}
			g := h.proc.group(o.id)
			if o.w.impatient && g.begun && g.unsettled != 0 && !isMember(now, h.id) {
				continue // it was removed, and hears from nobody
			}
			if g.begun && (!g.fenced || isMember(now, h.id)) ||
				!g.begun && g.mender != nil && (meetsQuorums(g.mender.configurations(), h.id, has) ||
					!slices.ContainsFunc(othersWhoVote(now, h.id),
						func(id uint64) bool { return !tells[id] })) {
				tells[h.id], grown = true, true
			}
		}
	}
	return tells
}
