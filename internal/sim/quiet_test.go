package sim_test

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// Groups that rest: the twin of node/quiet.go and node/pulse.go. Frames travel as values, each whisper
// in one of its own.

// pulse is the twin of node/pulse.go.
type pulse struct {
	p     *process
	now   int64
	peers []pulsePeer // by id
}

type pulsePeer struct {
	life  uint64 // 0 = never heard
	heard int64
	lives bool
}

func (u *pulse) lives(peer uint64) bool { return u.peers[peer].lives }

// tick is pulse.tick.
func (u *pulse) tick() {
	p := u.p
	u.now++
	if p.failed != nil {
		return
	}
	from, life := p.h.id, p.life
	for _, to := range p.peers() {
		p.w.net.whisper(p, to, func(q *process) { q.pulse.hear(from, life) })
	}
	limit := int64(p.w.plan.config.electionTicks)
	for id := range u.peers {
		peer := &u.peers[id]
		if peer.lives && u.now-peer.heard >= limit {
			peer.lives = false
			p.stirWhere(func(g *group) bool { return g.leads() || g.lead == uint64(id) },
				whisper{from: uint64(id), silent: int(limit)})
		}
	}
}

// hear is pulse.heard.
func (u *pulse) hear(id, life uint64) {
	peer := &u.peers[id]
	rises := !peer.lives || peer.life != life
	*peer = pulsePeer{life: life, heard: u.now, lives: true}
	if rises {
		u.p.stirWhere(func(g *group) bool { return g.leads() || g.lead == id }, whisper{from: id})
	}
}

// peers are the members of all groups of the node, but for itself.
func (p *process) peers() (list []uint64) {
	for _, h := range p.w.hosts {
		if h.id != p.h.id && !p.refused[h.id] && slices.ContainsFunc(p.groups, func(g *group) bool {
			return isMember(g.conf, h.id)
		}) {
			list = append(list, h.id)
		}
	}
	return list
}

// whisper is whisper of node/quiet.go.
type whisper struct {
	from        uint64
	term, index uint64
	silent      int
}

func (p *process) stirWhere(which func(*group) bool, w whisper) {
	for _, g := range p.groups {
		if which(g) {
			g.hearWhisper(w)
		}
	}
}

func (g *group) hearWhisper(w whisper) {
	g.post(func(in *contents) { in.whispers = append(in.whispers, w) })
}

// whisper carries a small frame on the lane of the heartbeats, and reports whether it was sent.
func (n *network) whisper(from *process, to uint64, deliver func(*process)) bool {
	if n.w.host(to).proc == nil && n.w.rng.network.IntN(2) == 0 {
		return false
	}
	n.carry(from, to, laneUrgent, deliver)
	return true
}

func (g *group) whisperRest(to, term, index uint64) {
	id, from := g.id, g.p.h.id
	if !g.w.net.whisper(g.p, to, func(q *process) {
		q.group(id).hearWhisper(whisper{from: from, term: term, index: index})
	}) {
		g.hearWhisper(whisper{from: to})
	}
}

func (g *group) whisperStir(to uint64) {
	id, from := g.id, g.p.h.id
	g.w.net.whisper(g.p, to, func(q *process) { q.group(id).hearWhisper(whisper{from: from}) })
}

const (
	concernNone = iota
	concernAwake
	concernBusy
)

// concern is contents.concern.
func (in *contents) concern(leader uint64) (degree int, own bool) {
	if len(in.calls)+len(in.reads)+len(in.retries)+len(in.events) > 0 {
		return concernBusy, true
	}
	for _, r := range in.messages {
		switch r.m.GetType() {
		case pb.MsgHeartbeatResp:
			continue
		case pb.MsgHeartbeat:
			degree = max(degree, concernAwake)
		default:
			degree = concernBusy
		}
		own = own || r.from != leader
	}
	for _, w := range in.whispers {
		if w.term == 0 {
			degree, own = max(degree, concernAwake), own || w.from != leader
		}
	}
	return degree, own
}

// listen is Group.listen.
func (g *group) listen(in *contents) {
	degree, own := in.concern(g.lead)
	if degree == concernBusy {
		g.idle = 0
	}
	if degree == concernNone || !g.resting {
		return
	}
	g.idle, g.resting = 0, false
	g.note("rises")
	if own && g.lead != raft.None && g.lead != g.p.h.id {
		g.whisperStir(g.lead)
	}
	for _, w := range in.whispers {
		if w.silent > 0 && w.from == g.lead && !g.p.hung {
			g.makeUp(w.silent)
			break
		}
	}
}

// makeUp is Group.makeUp.
func (g *group) makeUp(silent int) {
	if g.outside() {
		return
	}
	for range min(int64(silent), g.p.pulse.now-g.restsSince) - 4 {
		g.core.Tick()
	}
}

// agree is Group.agree.
func (g *group) agree(list []whisper) {
	for _, w := range list {
		if w.term == 0 {
			continue
		}
		if g.failed == nil && len(g.retries) == 0 && g.p.pulse.lives(w.from) &&
			g.core.RestsWith(w.from, w.term, w.index) {
			g.rest()
		} else {
			g.whisperStir(w.from)
		}
	}
}

// tryRest is Group.tryRest.
func (g *group) tryRest() {
	timeout := g.w.plan.config.electionTicks
	if g.idle++; g.idle < 2*timeout || g.idle%(timeout+1) != 0 || !g.leads() ||
		!g.w.plan.config.rests {
		return
	}
	isPinned := slices.ContainsFunc(g.snaps.pins, func(p pin) bool { return p.index != 0 })
	if len(g.retries) > 0 || g.p.hung || isPinned {
		return
	}
	rest, ok := g.core.Rest(g.p.pulse.lives)
	if !ok {
		return
	}
	for _, peer := range rest.Peers {
		g.whisperRest(peer, rest.Term, rest.Index)
	}
	g.rest()
}

func (g *group) rest() {
	g.note("rests")
	g.w.stats.rests++
	g.restsSince, g.resting = g.p.pulse.now, true
}

// deferral is deferral of node/inbox.go.
type deferral struct{ calls, reads, appended, applied bool }

// setDeferral is Group.setDeferral.
func (g *group) setDeferral(d deferral) {
	g.defers = d
	if !d.calls && len(g.in.calls) > 0 || !d.reads && len(g.in.reads) > 0 ||
		!(d.appended && d.applied) && len(g.in.acks) > 0 {
		g.p.schedule(g)
	}
}

// postCall is Group.postCall, postRead Group.postRead.
func (g *group) postCall(c *call) {
	g.in.calls = append(g.in.calls, c)
	if !g.defers.calls {
		g.p.schedule(g)
	}
}

func (g *group) postRead(c *call) {
	g.in.reads = append(g.in.reads, c)
	if !g.defers.reads || c.fresh != (replica.Freshness{}) {
		g.p.schedule(g)
	}
}

// postAppended is Group.postAppended, postApplied Group.postApplied.
func (g *group) postAppended(acks []*pb.Message, appended int) {
	g.in.acks = append(g.in.acks, acks...)
	g.in.appended += appended
	if !g.defers.appended {
		g.p.schedule(g)
	}
}

func (g *group) postApplied(acks []*pb.Message) {
	g.in.acks = append(g.in.acks, acks...)
	if !g.defers.applied {
		g.p.schedule(g)
	}
}

// postMessages is Group.postMessages.
func (g *group) postMessages(from uint64, messages []*pb.Message) {
	late := true
	for _, m := range messages {
		g.in.messages = append(g.in.messages, received{from, m})
		late = late && m.GetType() == pb.MsgAppResp && !m.GetReject() && g.settled != 0 &&
			m.GetIndex() == g.settled
	}
	if !late {
		g.p.schedule(g)
	}
}

// lull has the clients do nothing for a while, so that groups come to rest; or only read, so that a
// node that is cut off misses nothing, and may be elected.
func (w *world) lull() {
	if !w.plan.config.rests && !w.plan.config.leases || w.healed {
		return
	}
	w.readsGoOn = !w.plan.config.rests || w.plan.config.leases && w.rng.client.IntN(2) == 0
	timeout := w.plan.config.electionTime()
	w.quietUntil = w.now + int64(w.between(2*timeout, 6*timeout))
	w.after(w.between(4*timeout, 12*timeout), w.lull)
}

// pause is how long a client waits for the end of a lull.
func (w *world) pause() time.Duration {
	if w.quietUntil <= w.now {
		return 0
	}
	return time.Duration(w.quietUntil-w.now) + w.between(0, 200*time.Millisecond)
}
