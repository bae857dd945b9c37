package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/snap"
	"github.com/connectraft/connect/transport"
	"github.com/connectraft/connect/wal"
)

// A group whose log is damaged asks its peers before it takes part in anything.
//
// A hole with intact entries behind it is filled from any peer: two logs that have an entry of the
// same term at one index are the same up to there (thesis section 3.5, Log Matching), so a peer's
// entries fit when its entry at the first intact index has the term of ours.
//
// A log that has lost its end cannot know what it acknowledged. The group starts fenced (see
// internal/replica/fence.go), above the terms of so many peers that every quorum this node was part
// of has one of them.
//
// An empty log of one of the first members is either that of a new cluster or one that was lost as
// a whole. If it was lost after the others had registered its incarnation they refuse this node,
// and it stays here until it is replaced. Until then only they can tell, and only those who have begun:
// another one that is empty too may have been lost with it, after the two had agreed with a third one.
// So the cluster is new when all other first members say that nothing has happened, or when so many say
// so that have begun that no quorum of this node with others can have agreed on anything. When
// anybody has seen a term, a member or not, the log was lost, and the group starts fenced as above.
// Members that have all lost their directories, and reach nobody who has not, make a new cluster.
//
// Which quorums there were, and who must have answered before this node goes on, is told in
// mendquorum.go. This node asks whom it knows as a member, whom a peer knows as one, and whoever is
// connected: a node that joined and has lost what it was sent knows no members.
//
//	fetch:    u64 first │ u64 last
//	entries:  u64 first │ uvarint count │ { uvarint term │ u8 type │ uvarint length │ bytes } × count
//	ask term: nothing
//	term:     u64 term │ u64 last index │ members (protobuf of raft's ConfState, may be missing);
//	          term and index are 0 or 1 before anything has happened
//
// Integers are little endian. A peer that lacks any of the entries answers with none; one that is
// damaged itself does not tell a term, and one whose log may have a change of the members that it has
// not made yet (memberState.unsettled) is asked again when it has.
const (
	kindFetch   transport.Kind = 3
	kindEntries transport.Kind = 4
	kindAskTerm transport.Kind = 5
	kindTerm    transport.Kind = 6
)

const (
	// mendBytesMax bounds one answer. A larger hole is left to the leader, or to a snapshot.
	mendBytesMax = 32 << 20
	// fetchesAtOnce bounds what a node reads for its peers at a time.
	fetchesAtOnce = 2
	// askAgainTicks is after how many ticks a peer that did not answer is asked again.
	askAgainTicks = 10
)

// mender asks the peers on behalf of one damaged group.
type mender struct {
	group *Group
	wake  chan struct{}
	said  []uint64 // run's: the members that the log was told to be missing
	mu    struct {
		sync.Mutex
		entries map[uint64][]*pb.Entry // answers of peers about the present hole; empty = none
		terms   map[uint64]position    // answers of peers
	}
}

// position is how far a peer has come.
type position struct {
	term, last uint64
	members    *pb.ConfState // as the peer knows them, nil = it does not tell
}

// isNew reports that nothing has happened at the peer yet, not even an election.
func (p position) isNew() bool { return p.term <= 1 && p.last <= 1 }

// hasBegun reports whether the peer remembers what it did. One that has not begun may have lost it.
func (p position) hasBegun() bool { return p.term >= bootstrapTerm }

func newMender(g *Group) *mender {
	m := &mender{group: g, wake: make(chan struct{}, 1)}
	m.mu.entries, m.mu.terms = map[uint64][]*pb.Entry{}, map[uint64]position{}
	return m
}

// run fills every hole that peers can fill. If the log stays damaged it returns the term above
// which the group must start, fenced; else 0.
func (m *mender) run() (fence uint64, err error) {
	g := m.group
	if g.newcomer.Load() {
		return m.highestTerm()
	}
	for damage := g.wal.Damage(); damage != nil; damage = g.wal.Damage() {
		g.log.Warn("log damaged, asking the peers", "damage", damage)
		g.emit(Event{Kind: DamageFound, Index: damage.FirstIndex, Detail: damage.Error()})
		filled := false
		if damage.Resume != 0 {
			filled, err = m.fill(damage)
		}
		if err != nil {
			return 0, err
		}
		if !filled {
			return m.highestTerm()
		}
	}
	return 0, nil
}

// knownMembers are the members that a group which has not begun knows of.
func (g *Group) knownMembers() *pb.ConfState {
	var newest *snap.Manifest
	for _, m := range g.node.snaps.List(g.id) {
		if newest == nil || m.Index > newest.Index {
			newest = &m
		}
	}
	mark := g.wal.Mark()
	switch {
	case newest != nil && newest.Index >= mark.Index:
		return newest.ConfState
	case mark.ConfState != nil:
		return mark.ConfState
	}
	return g.firstVoters()
}

// fill fills one hole, and reports false when the peers cannot.
func (m *mender) fill(damage *wal.DamageError) (bool, error) {
	n := m.group.node
	m.mu.Lock()
	clear(m.mu.entries)
	m.mu.Unlock()
	question := binary.LittleEndian.AppendUint64(nil, damage.FirstIndex)
	question = binary.LittleEndian.AppendUint64(question, damage.Resume)
	cannot := map[uint64]bool{}
	for tick := 0; !m.enough(m.answers(), func(id uint64) bool { return cannot[id] }); tick++ {
		m.ask(tick, kindFetch, question, func(peer uint64) bool { return cannot[peer] })
		m.ask(tick, kindAskTerm, nil, nobody) // for the members
		m.tellMissing(tick)
		if err := m.wait(); err != nil {
			return false, err
		}
		for peer, entries := range m.takeEntries() {
			filled, err := m.tryEntries(peer, entries)
			if filled || err != nil {
				return filled, err
			}
			cannot[peer] = true
		}
		if err := n.Err(); err != nil {
			return false, err
		}
	}
	m.group.log.Warn("the peers cannot fill the hole: what is behind it is given up")
	return false, nil
}

func (m *mender) tryEntries(peer uint64, entries []*pb.Entry) (bool, error) {
	g := m.group
	if len(entries) == 0 {
		return false, nil
	}
	err := g.node.onLog(func() error { return g.node.wal.Mend(g.id, entries) })
	switch {
	case err == nil:
		g.log.Info("log mended", "from", peer, "first", entries[0].GetIndex(),
			"last", entries[len(entries)-1].GetIndex())
		g.emit(Event{Kind: DamageMended, Peer: peer, Index: entries[len(entries)-1].GetIndex()})
		return true, nil
	case errors.Is(err, wal.ErrInvalid):
		g.log.Warn("entries of a peer do not fit the hole", "from", peer, "err", err)
		return false, nil
	}
	return false, err
}

// highestTerm returns the highest term that enough peers and this node know, or 0 when the group is
// new everywhere.
func (m *mender) highestTerm() (uint64, error) {
	g := m.group
	warned := false
	for tick := 0; ; tick++ {
		answers := m.answers()
		begun := m.knowsBegun(answers)
		if fence, ok := m.verdict(answers, begun); ok {
			return fence, nil
		}
		if begun && g.newcomer.Load() && !warned {
			warned = true
			g.log.Warn("this node's data directory is empty, but the cluster has begun: waiting " +
				"for so many of the other members that nothing acknowledged can be forgotten")
		}
		// Also those who have answered: they may know other members by now, or have begun.
		m.ask(tick, kindAskTerm, nil, nobody)
		m.tellMissing(tick)
		if err := m.wait(); err != nil {
			return 0, err
		}
	}
}

// verdict returns the term above which the group starts fenced, 0 when it is new everywhere, or false
// when these answers do not tell. It goes by nothing that comes in meanwhile: one that has seen a term
// must not complete a number of answers of which none had.
func (m *mender) verdict(answers map[uint64]position, begun bool) (fence uint64, ok bool) {
	g := m.group
	highest := g.wal.State().Term
	for _, p := range answers {
		highest = max(highest, p.term)
	}
	enough := m.enough(answers, func(id uint64) bool { return answers[id].hasBegun() })
	switch {
	case m.gone(answers):
	case g.newcomer.Load() && !begun && (enough || len(m.missing(answers, begun)) == 0):
		return 0, true
	case enough && g.newcomer.Load():
		return max(highest, bootstrapTerm), true
	case enough:
		return highest, true
	}
	return 0, false
}

// knowsBegun reports whether somebody has told this node that the cluster has begun: with an answer, or
// by refusing it, as one who was removed or with another directory.
func (m *mender) knowsBegun(answers map[uint64]position) bool {
	g := m.group
	if g.members.gone.Load() != nil || g.node.refusals.why() != "" {
		return true
	}
	for _, p := range answers {
		if !p.isNew() {
			return true
		}
	}
	return false
}

func (m *mender) answers() map[uint64]position {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.mu.terms)
}

// gone reports whether the newest members that a peer has told of are without this node: it waits
// then for ever, or until it is added again.
func (m *mender) gone(answers map[uint64]position) bool {
	self, newest := m.group.node.options.ID, position{}
	for _, p := range answers {
		if len(p.members.GetVoters()) > 0 && p.last >= newest.last {
			newest = p
		}
	}
	if newest.members == nil || isMember(newest.members, self) {
		return false
	}
	m.group.learnGone(fmt.Sprintf("node %d is no member: voters %v", self,
		newest.members.GetVoters()), nil)
	return true
}

func nobody(uint64) bool { return false }

// ask sends a question, every few ticks, to the peers that are not done. One that is not connected
// is asked again the next time.
func (m *mender) ask(tick int, kind transport.Kind, question []byte, done func(uint64) bool) {
	n := m.group.node
	if tick%askAgainTicks != 0 {
		return
	}
	peers := n.transport.Peers()
	for _, c := range m.configurations(m.answers()) {
		peers = append(peers, allIDs(c)...)
	}
	slices.Sort(peers)
	for _, id := range slices.Compact(peers) {
		if id == n.options.ID || done(id) {
			continue
		}
		if err := n.transport.Send(id, m.group.id, kind, question); err != nil {
			m.group.log.Debug("peer not asked", "peer", id, "err", err)
		}
	}
}

// wait returns after a tick or at an answer, and with an error when the node closes.
func (m *mender) wait() error {
	timer := time.NewTimer(m.group.node.options.Tick)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-m.wake:
	case <-m.group.node.stopping:
		return ErrClosed
	}
	if m.group.removed.Load() {
		return ErrGroupRemoved
	}
	return nil
}

func (m *mender) takeEntries() map[uint64][]*pb.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	answers := m.mu.entries
	m.mu.entries = map[uint64][]*pb.Entry{}
	return answers
}

// answered notes an answer of a peer.
func (m *mender) answered(note func()) {
	m.mu.Lock()
	note()
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// noteLocked takes a peer's newest position. What it told before it lost its own directory still holds.
func (m *mender) noteLocked(from uint64, p position) {
	if p.term >= m.mu.terms[from].term {
		m.mu.terms[from] = p
	}
}

// handleMend takes a question of a peer, or the answer to one of this node's.
func (g *Group) handleMend(from uint64, kind transport.Kind, payload []byte) error {
	d := decoder{payload}
	m := g.mender.Load()
	switch kind {
	case kindFetch:
		return g.serveFetch(from, payload)
	case kindAskTerm:
		return g.serveTerm(from)
	case kindEntries:
		entries, err := decodeEntries(payload)
		if err == nil && m != nil {
			m.answered(func() { m.mu.entries[from] = entries })
		}
		return err
	case kindTerm:
		p := position{term: d.u64(), last: d.u64()}
		if d.rest == nil {
			return errFrame
		}
		if len(d.rest) > 0 {
			p.members = &pb.ConfState{}
			if err := proto.Unmarshal(d.rest, p.members); err != nil {
				return fmt.Errorf("%w: %w", errFrame, err)
			}
		}
		if m != nil {
			m.answered(func() { m.noteLocked(from, p) })
		}
	}
	return nil
}

// serveTerm tells a peer how far this replica has come. One that may have forgotten it does not, nor
// does one whose members are not those that its log ends with: see mendquorum.go. A new one is a
// witness that nothing has happened until it hears otherwise.
func (g *Group) serveTerm(from uint64) error {
	var p position
	m := g.mender.Load()
	switch {
	case g.newcomer.Load():
		if m == nil || m.knowsBegun(m.answers()) {
			return nil
		}
	case g.begun.Load() && !g.fenced.Load() && g.failed.Load() == nil &&
		g.members.unsettled.Load() == 0:
		p = position{g.term.Load(), g.wal.LastIndex(), g.members.conf.Load()}
	default:
		return nil
	}
	payload := binary.LittleEndian.AppendUint64(nil, p.term)
	payload = binary.LittleEndian.AppendUint64(payload, p.last)
	if p.members != nil {
		members, err := proto.Marshal(p.members)
		if err != nil {
			return err
		}
		payload = append(payload, members...)
	}
	return g.node.transport.Send(from, g.id, kindTerm, payload)
}

// serveFetch answers a peer's request from this node's log. It reads the disk, so it runs beside
// the transport's reader; when too much is read already the peer will ask again.
func (g *Group) serveFetch(from uint64, payload []byte) error {
	d := decoder{payload}
	first, last := d.u64(), d.u64()
	if d.rest == nil || first > last {
		return errFrame
	}
	select {
	case g.node.fetches <- struct{}{}:
	default:
		return nil
	}
	g.node.background.Go(func() {
		defer func() { <-g.node.fetches }()
		reply, err := encodeEntries(g.wal, first, last)
		if err != nil {
			g.log.Info("peer asks for entries that are not here", "from", from, "first", first,
				"last", last, "err", err)
			reply = binary.AppendUvarint(binary.LittleEndian.AppendUint64(nil, first), 0)
		}
		if err := g.node.transport.Send(from, g.id, kindEntries, reply); err != nil {
			g.log.Debug("entries not sent", "to", from, "err", err)
		}
	})
	return nil
}

func encodeEntries(log *wal.Group, first, last uint64) ([]byte, error) {
	if last-first >= mendBytesMax {
		return nil, fmt.Errorf("node: entries %d to %d are too many for one answer", first, last)
	}
	b := binary.LittleEndian.AppendUint64(nil, first)
	b = binary.AppendUvarint(b, last-first+1)
	for next := first; next <= last; {
		entries, err := log.Entries(next, last+1, mendBytesMax)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			b = binary.AppendUvarint(b, e.GetTerm())
			b = append(b, byte(e.GetType()))
			b = binary.AppendUvarint(b, uint64(len(e.GetData())))
			b = append(b, e.GetData()...)
		}
		if len(b) > mendBytesMax {
			return nil, fmt.Errorf("node: entries %d to %d exceed %d bytes", first, last,
				mendBytesMax)
		}
		next += uint64(len(entries))
	}
	return b, nil
}

func decodeEntries(payload []byte) ([]*pb.Entry, error) {
	d := decoder{payload}
	first, count := d.u64(), d.uvarint()
	if d.rest == nil || count > uint64(len(payload)) {
		return nil, errFrame
	}
	entries := make([]*pb.Entry, count)
	for i := range entries {
		term, kind, data := d.uvarint(), pb.EntryType(d.u8()), d.bytes()
		entries[i] = &pb.Entry{Index: new(first + uint64(i)), Term: &term, Type: &kind, Data: data}
	}
	if d.rest == nil {
		return nil, errFrame
	}
	return entries, nil
}
