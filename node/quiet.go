package node

import (
	"encoding/binary"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/transport"
)

// Most groups of a node are idle at any moment, and an idle group rests: nobody ticks it, so it
// costs no processor time and no message. What a leader's heartbeats tell its followers, that its
// node lives, all groups of the node tell together: with one small beat for each peer and tick (see
// pulse).
//
// The handover. A leader that has had nothing to do for an election timeout, and whose living
// followers have the same log, all of it committed and applied, tells them to rest with it, and
// rests. A follower that is in the very state the leader names rests too; any other one answers
// with a stir. These frames travel on the lane of the heartbeats, in order with them, those of many
// groups in one frame.
//
//	rest: { uvarint group │ uvarint term │ uvarint index } × groups
//	stir: { uvarint group } × groups
//	beat: u64 life of the sender
//
// The end of the rest. Whatever concerns the group ends it on the node that learns of it: a
// command, a read, a message of raft (but a late answer to a heartbeat), a stir, the loss of a
// stream to or from the leader's node, and the leader's node being silent for an election timeout;
// on the leader the same of any other node, another node coming to life, and a disk that hangs. A
// follower that rises for a reason of its own stirs the leader, and a leader that rises sends a
// heartbeat with its next tick, which makes the followers rise. A leader whose group fails on its
// node stirs the followers.
//
// Nothing of the safety of raft depends on ticks: a replica without ticks is one whose clock is
// slow. What does depend on them is this:
//
//   - A linearizable read needs a round of heartbeats. A leader that was cut off while it rested
//     gets no answers, whatever it believes, and its first election timeout with ticks deposes it.
//   - A lease of the leader stands on its followers refusing their votes for so many ticks (see
//     lease.go of package replica), and ends by a clock that does not rest. Followers without ticks
//     refuse for longer, not for less. One that has heard nothing of the leader's node makes up for
//     the ticks of that silence but for four: n ticks take at least n-2 times the tick, and the
//     ticks before the rest, during it and after it are three such runs, where the lease allows for
//     one.
//   - CheckQuorum of a leader that rises looks at what it heard before it rested, once:
//     Replica.Rest makes sure that this was a majority. A second look finds only what has answered
//     since.
//
// Losing any of these messages only costs time. Without the rest a follower goes on ticking and
// asks for votes after an election timeout, which makes the leader rise. Without a stir the same
// happens. Of a leader that has died the node's beats end; of a process that was replaced they tell
// another life; and a follower that rises by mistake does as a follower does that has lost a
// heartbeat.
const (
	kindRest transport.Kind = 9
	kindStir transport.Kind = 10
	kindBeat transport.Kind = 11
)

// restsInFrame is the most groups that one frame names.
const restsInFrame = 4096

// whisper is what a group hears about resting.
type whisper struct {
	from        uint64 // the node that says so
	term, index uint64 // of the state to rest in; 0 = rise
	silent      int    // ticks for which from was silent; 0 = it was not
}

// whispers is what a worker has to tell the other nodes, for each of them.
type whispers struct {
	rests, stirs map[uint64][]byte
	resting      map[uint64][]*Group // whom the rests name
}

// whisper tells the group something about resting.
func (g *Group) whisper(w whisper) {
	g.post(func(in *contents) { in.whispers = append(in.whispers, w) })
}

// stir ends the rest of a group.
func (g *Group) stir(from uint64) { g.whisper(whisper{from: from}) }

// The degrees to which what is in an inbox concerns a group.
const (
	concernNone  = iota // leaves a resting group at rest
	concernAwake        // ends the rest
	concernBusy         // ends the idleness too
)

// concern returns to which degree the contents concern a group, and whether any of them is the
// group's own or comes from another node than its leader, so that the leader does not know.
func (in *contents) concern(leader uint64) (degree int, own bool) {
	switch {
	case len(in.calls)+len(in.retries)+len(in.events) > 0:
		return concernBusy, true
	case len(in.reads) > 0:
		degree, own = concernAwake, true
	}
	for _, r := range in.messages {
		switch r.m.GetType() {
		case pb.MsgHeartbeatResp:
			continue
		case pb.MsgHeartbeat, pb.MsgReadIndex, pb.MsgReadIndexResp:
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

// listen runs at the beginning of a turn: it ends the rest if anything in the inbox does.
func (g *Group) listen(in *contents) {
	leader := g.lead.Load()
	degree, own := in.concern(leader)
	rises := degree != concernNone && g.resting.Load()
	if rises {
		g.rise()
	}
	if degree == concernBusy {
		g.idle = 0
	}
	if !rises {
		return
	}
	if own && leader != raft.None && leader != g.node.options.ID {
		g.worker.whisperStir(leader, g.id)
	}
	for _, w := range in.whispers {
		if w.silent > 0 && w.from == leader && !g.node.disk.hangs.Load() {
			g.makeUp(w.silent)
			break
		}
	}
}

// makeUp gives the core the ticks for which the leader's node was silent while the group rested.
func (g *Group) makeUp(silent int) {
	if g.outside() {
		return // a removed node stands for no election
	}
	ticks := min(int64(silent), g.node.pulse.now.Load()-g.restsSince) - 4
	for range ticks {
		g.core.Tick()
	}
}

// agree runs at the end of a turn: the group rests with its leader, or stirs it.
func (g *Group) agree(list []whisper) {
	for _, w := range list {
		if w.term == 0 {
			continue
		}
		if g.failed.Load() == nil && len(g.retries) == 0 && g.node.pulse.lives(w.from) &&
			g.core.RestsWith(w.from, w.term, w.index) {
			g.rest()
		} else {
			g.worker.whisperStir(w.from, g.id)
		}
	}
}

// tryRest runs in a tick. When a leader's group has been idle for an election timeout, and then
// after each further one, it rests if it can. One tick more lies between two tries, because a
// leader forgets once in an election timeout whom it has heard.
func (g *Group) tryRest() {
	timeout := g.node.options.ElectionTicks
	if g.idle++; g.idle%(timeout+1) != 0 || !g.leads() {
		return
	}
	if len(g.retries) > 0 || g.node.disk.hangs.Load() || g.snapshots.pinned() {
		return
	}
	rest, ok := g.core.Rest(g.node.pulse.lives)
	if !ok {
		return
	}
	for _, peer := range rest.Peers {
		g.worker.whisperRest(peer, g, rest.Term, rest.Index)
	}
	g.rest()
}

func (g *Group) rest() {
	g.restsSince = g.node.pulse.now.Load()
	g.worker.drop(g)
	g.resting.Store(true)
}

// rise ends the rest. It begins again sooner than after a command: a read changes nothing.
func (g *Group) rise() {
	g.idle = g.node.options.ElectionTicks / 2
	g.resting.Store(false)
	g.worker.add(g)
}

func (w *worker) whisperRest(peer uint64, g *Group, term, index uint64) {
	b := binary.AppendUvarint(w.whispers.rests[peer], g.id)
	b = binary.AppendUvarint(b, term)
	w.whispers.rests[peer] = binary.AppendUvarint(b, index)
	w.whispers.resting[peer] = append(w.whispers.resting[peer], g)
	if len(w.whispers.resting[peer]) == restsInFrame {
		w.tellRests(peer)
	}
}

func (w *worker) whisperStir(peer, group uint64) {
	b := binary.AppendUvarint(w.whispers.stirs[peer], group)
	w.whispers.stirs[peer] = b
	if len(b) >= restsInFrame {
		w.tellStirs(peer)
	}
}

// tellWhispers runs at the end of a round of the loop.
func (w *worker) tellWhispers() {
	for peer := range w.whispers.rests {
		w.tellRests(peer)
	}
	for peer := range w.whispers.stirs {
		w.tellStirs(peer)
	}
}

// tellRests sends the rests for a peer. Groups of which it surely does not learn rise again.
func (w *worker) tellRests(peer uint64) {
	payload, groups := w.whispers.rests[peer], w.whispers.resting[peer]
	delete(w.whispers.rests, peer)
	delete(w.whispers.resting, peer)
	if err := w.node.transport.SendUrgent(peer, 0, kindRest, payload); err != nil {
		for _, g := range groups {
			g.stir(peer)
		}
	}
}

// tellStirs sends the stirs for a peer. What is lost here is lost with the connection, whose end
// makes the groups rise too.
func (w *worker) tellStirs(peer uint64) {
	payload := w.whispers.stirs[peer]
	delete(w.whispers.stirs, peer)
	_ = w.node.transport.SendUrgent(peer, 0, kindStir, payload)
}

// stirFollowers tells every other node that this one does not lead a group any more, whose core may
// not be asked.
func (g *Group) stirFollowers() {
	payload := binary.AppendUvarint(nil, g.id)
	for _, peer := range g.node.transport.Peers() {
		_ = g.node.transport.SendUrgent(peer, 0, kindStir, payload)
	}
}

// stirWhere ends the rest of many groups. It runs on any goroutine.
func (n *Node) stirWhere(which func(*Group) bool, w whisper) {
	n.groups.each(func(g *Group) {
		if which(g) {
			g.whisper(w)
		}
	})
}

// hear takes a frame of a peer about resting.
func (n *Node) hear(from uint64, kind transport.Kind, payload []byte) error {
	d := decoder{payload}
	if kind == kindBeat {
		life := d.u64()
		if d.rest == nil {
			return errFrame
		}
		n.pulse.heard(from, life)
		return nil
	}
	for len(d.rest) > 0 {
		w, group := whisper{from: from}, d.uvarint()
		if kind == kindRest {
			w.term, w.index = d.uvarint(), d.uvarint()
		}
		if d.rest == nil || kind == kindRest && w.term == 0 {
			return errFrame
		}
		if g := n.Group(group); g != nil {
			g.whisper(w)
		}
	}
	return nil
}
