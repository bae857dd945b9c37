package node

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// electionTimeout is the shortest time after which a follower takes its leader for dead.
func (n *Node) electionTimeout() time.Duration {
	return time.Duration(n.options.ElectionTicks) * n.options.Tick
}

func compareIDs(a, b uint64) int { return cmp.Compare(a, b) }

// A node is its id and its incarnation: the number drawn when its data directory was made. The
// lowest group's leader registers in the directory which incarnation each member has, and
// AdmitPeer refuses a member that comes with another one: its directory was lost, and with it what
// it has promised, so only a new member under a new id can take its place. A voter that was added
// is registered in the entry that gives it its vote. One of the first members is registered as
// soon as it is connected; until then, what cannot be known here is left to the newcomer's
// questions (mend.go).

// refusals are the peers that do not take this node, and why.
type refusals struct {
	mu struct {
		sync.Mutex
		texts map[uint64]string
	}
}

// PeerRefused is called by the transport at every attempt to connect.
func (h handler) PeerRefused(peer uint64, removed bool, text string) {
	n := h.node
	if removed {
		// A group with a leader knows better than a peer that is behind; without one the next
		// attempt to connect tells the same.
		n.groups.each(func(g *Group) {
			d := g.apply.directory.Load()
			if g.newcomer.Load() || g.begun.Load() && g.lead.Load() == 0 && isMember(d.State, peer) {
				g.learnGone(text, nil)
			}
		})
		return
	}
	if n.refusals.add(peer, text) {
		n.log.Error("this node is refused", "by", peer, "reason", text)
		n.emit(Event{Kind: PeerRefused, Peer: peer, Detail: "this node is refused: " + text})
	}
}

// AdmitPeer judges a peer before anything is exchanged with it.
func (h handler) AdmitPeer(peer, incarnation uint64, _ string) error {
	return h.node.roster.admit(peer, incarnation)
}

func (r *refusals) add(peer uint64, text string) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.texts == nil {
		r.mu.texts = map[uint64]string{}
	}
	for _, known := range r.mu.texts {
		if known == text {
			r.mu.texts[peer] = text
			return false
		}
	}
	r.mu.texts[peer] = text
	return true
}

// lifted notes that a peer has taken this node after all.
func (r *refusals) lifted(peer uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.texts, peer)
}

// why returns the reason of one of the refusals, "" when there is none.
func (r *refusals) why() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, text := range r.mu.texts {
		return text
	}
	return ""
}

// steward does what a node does about members every half election timeout, or when a peer came: it
// forgets those who left, registers incarnations, tells where members are, and asks whether this
// node was removed. One goroutine runs it until the node closes.
type steward struct {
	node *Node
	wake chan struct{}
	// waited counts the rounds for which this node leads and members without an incarnation are
	// not connected: the first registration waits for them a while, to be one entry.
	waited int
	// lone counts the rounds since a group had a leader, or has asked.
	lone map[uint64]int
}

const (
	registerRounds = 6  // waited for those who are not connected
	loneRounds     = 4  // without a leader before a group asks
	learnerRounds  = 20 // between two questions of a learner, which keeps its last leader for ever
	askedAtOnce    = 16 // groups that ask in a round
)

func newSteward(n *Node) *steward {
	return &steward{node: n, wake: make(chan struct{}, 1), lone: map[uint64]int{}}
}

// kick makes the next round come at once.
func (s *steward) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *steward) run() {
	ticker := time.NewTicker(s.node.electionTimeout() / 2)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.wake:
		case <-s.node.stopping:
			return
		}
		s.node.roster.sweep()
		s.register()
		s.tellAddresses()
		s.askWhetherGone()
	}
}

// register has the lowest group's directory say which incarnations its members have.
func (s *steward) register() {
	g := s.node.roster.lowest()
	if g == nil || !g.leads() {
		s.waited = 0
		return
	}
	d := g.apply.directory.Load()
	all, connected := allIDs(d.State), s.node.connected()
	r := controlRequest{Ask: askChange, Version: d.Version}
	missing := 0
	for _, id := range all {
		m, _ := d.Member(id)
		switch {
		case m.Incarnation != 0:
		case connected[id] == 0:
			missing++
		default:
			m.ID, m.Incarnation = id, connected[id]
			own, _ := s.node.options.member(id)
			m.Client, m.Admin = cmp.Or(m.Client, own.Client), cmp.Or(m.Admin, own.Admin)
			r.Members = append(r.Members, Member(m))
		}
	}
	if len(r.Members) == 0 || len(all) == 1 || len(d.State.GetVotersOutgoing()) > 0 {
		return
	}
	if missing > 0 && s.waited < registerRounds {
		s.waited++
		return
	}
	r.Steps = []memberStep{{r.Members[0].ID, becomesKnown}}
	if _, err := s.node.control.ask(s.node.ctx, g, s.node.options.ID, r); err != nil {
		g.log.Debug("incarnations not registered yet", "err", err)
		return
	}
	for _, m := range r.Members {
		g.log.Info("incarnation registered", "member", m.ID, "incarnation", m.Incarnation)
	}
}

// tellAddresses tells those who do not connect to this node where the members are. They may look for
// it where it was before a change that they have not applied, and apply nothing until they find it:
// when it leads, it hears nothing of what they acknowledge.
func (s *steward) tellAddresses() {
	g := s.node.roster.lowest()
	if g == nil {
		return
	}
	d := g.apply.directory.Load()
	r := controlRequest{Ask: askMoved, Version: d.Version}
	for _, m := range d.Members {
		if m.Address != "" {
			r.Members = append(r.Members, Member{ID: m.ID, Address: m.Address})
		}
	}
	if len(r.Members) == 0 {
		return
	}
	for _, p := range s.node.transport.Stats() {
		if !p.Connected || p.Heard || !isMember(d.State, p.ID) {
			continue
		}
		if err := s.node.control.send(p.ID, g.id, kindControl, 0, r); err != nil {
			g.log.Debug("peer not told where the members are", "peer", p.ID, "err", err)
		}
	}
}

// askWhetherGone asks on behalf of groups that have had no leader for long. A node may miss the
// entry that removes it, because nobody sends it anything any more.
func (s *steward) askWhetherGone() {
	left := askedAtOnce
	s.node.groups.each(func(g *Group) {
		learns := g.members.learner.Load()
		if g.lead.Load() != 0 && !learns || !g.begun.Load() || g.outside() {
			delete(s.lone, g.id)
			return
		}
		rounds := loneRounds
		if learns {
			rounds = learnerRounds
		}
		if s.lone[g.id]++; s.lone[g.id] < rounds || left == 0 {
			return
		}
		delete(s.lone, g.id)
		left--
		self := s.node.options.ID
		others := slices.DeleteFunc(allIDs(g.apply.directory.Load().State),
			func(id uint64) bool { return id == self })
		if len(others) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(s.node.ctx, 5*s.node.options.Tick)
		defer cancel()
		to := others[rand.IntN(len(others))]
		if a, err := s.node.control.ask(ctx, g, to, controlRequest{Ask: askMembers}); err == nil {
			g.hearGone(to, a.Now)
		}
	})
}

// hearGone takes a peer's word of what the members are: it counts when it is newer than what this
// node has applied, because the peer tells what is committed.
func (g *Group) hearGone(from uint64, now *Membership) {
	d := g.apply.directory.Load()
	if now == nil || now.Version <= d.Version || now.has(g.node.options.ID) ||
		!isMember(d.State, g.node.options.ID) {
		return
	}
	g.log.Info("a peer tells that this node is no member", "from", from)
	g.learnGone(fmt.Sprintf("node %d is no member any more: %s", g.node.options.ID, now), now)
}
