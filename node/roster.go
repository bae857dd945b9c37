package node

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/apply"
)

// roster is who the members of this node's groups are, taken together: what the transport's peers
// follow, and what AdmitPeer knows.
//
// Where a member is, the directory of the lowest group says. The first members have no address
// there until a change gives them one: they are where this node's own options say, or else where
// their own handshake says. A peer that has applied more of the lowest group may tell where they
// have gone since.
type roster struct {
	node *Node
	// known is the members of the lowest group by id, for readers without the mutex.
	known atomic.Pointer[map[uint64]apply.Member]
	mu    struct {
		sync.Mutex
		lowest uint64                      // group; 0 = none yet
		groups map[uint64]*apply.Directory // of every group that has begun
		counts map[uint64]int              // how many groups have the member
		// leaving is members that no group has any more, until when their connections stay, so
		// that what is on its way to them arrives.
		leaving map[uint64]time.Time
		refused map[uint64]uint64 // incarnation that was refused last, by id
		// heard is where members are by id, as a peer told it, and as of which version of the
		// lowest group. It counts until that is applied here.
		heard        map[uint64]string
		heardVersion uint64
	}
}

func newRoster(n *Node) *roster {
	r := &roster{node: n}
	r.known.Store(&map[uint64]apply.Member{})
	r.mu.groups = map[uint64]*apply.Directory{}
	r.mu.counts = map[uint64]int{}
	r.mu.leaving = map[uint64]time.Time{}
	r.mu.refused = map[uint64]uint64{}
	return r
}

// update takes the directory of a group as of now. It calls the transport with the mutex held, so
// that the peers follow the directories in their order; none of these calls waits.
func (r *roster) update(group uint64, d *apply.Directory) (left []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.lowest == 0 || group < r.mu.lowest {
		r.setLowestLocked(group)
	}
	left = r.replaceLocked(group, d)
	if group == r.mu.lowest {
		r.learnLocked(d)
		if d.Version >= r.mu.heardVersion {
			r.mu.heard = nil
		}
	}
	r.placeLocked(d)
	return left
}

// setLowestLocked makes another group the lowest one. Versions of two groups do not compare, so what
// was heard of the one before does not count any more.
func (r *roster) setLowestLocked(group uint64) {
	r.mu.lowest, r.mu.heard, r.mu.heardVersion = group, nil, 0
}

// placeLocked tells the transport where the members of a directory are.
func (r *roster) placeLocked(d *apply.Directory) {
	for _, id := range allIDs(d.State) {
		m, _ := d.Member(id)
		address := cmp.Or(r.mu.heard[id], (*r.known.Load())[id].Address, r.fill(m, id).Address)
		if address != "" {
			r.node.transport.SetPeer(id, address)
		}
	}
}

// hear takes a peer's word of where members are. It counts when it is newer than what this node has
// applied, because the peer tells what is committed.
func (r *roster) hear(from, group, version uint64, members []Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.mu.groups[group]
	if d == nil || group != r.mu.lowest || version <= max(d.Version, r.mu.heardVersion) ||
		!isMember(d.State, from) {
		return
	}
	r.mu.heard, r.mu.heardVersion = map[uint64]string{}, version
	for _, m := range members {
		r.mu.heard[m.ID] = m.Address
	}
	r.node.log.Info("a peer tells where the members are", "from", from, "version", version)
	r.placeLocked(d)
}

// replaceLocked counts the members of a group anew and returns those that have left it.
func (r *roster) replaceLocked(group uint64, d *apply.Directory) (left []uint64) {
	var before, after []uint64
	if old := r.mu.groups[group]; old != nil {
		before = allIDs(old.State)
	}
	delete(r.mu.groups, group)
	if d != nil {
		after = allIDs(d.State)
		r.mu.groups[group] = d
	}
	for _, id := range after {
		delete(r.mu.leaving, id)
		if !slices.Contains(before, id) {
			r.mu.counts[id]++
		}
	}
	for _, id := range before {
		if slices.Contains(after, id) {
			continue
		}
		left = append(left, id)
		if r.mu.counts[id]--; r.mu.counts[id] == 0 {
			delete(r.mu.counts, id)
			r.mu.leaving[id] = time.Now().Add(r.node.electionTimeout())
		}
	}
	return left
}

// learnLocked takes the members of the lowest group. A peer that was admitted before its
// incarnation was known is judged anew.
func (r *roster) learnLocked(d *apply.Directory) {
	before, known := *r.known.Load(), map[uint64]apply.Member{}
	for _, m := range d.Members {
		known[m.ID] = m
	}
	r.known.Store(&known)
	for _, s := range r.node.transport.Stats() {
		m := known[s.ID]
		news := m.Incarnation != 0 && m.Incarnation != before[s.ID].Incarnation
		if news && m.Incarnation != s.Incarnation {
			r.node.transport.Reconnect(s.ID)
		}
	}
}

// forget drops a group that is no more. Its members stay peers.
func (r *roster) forget(group uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.replaceLocked(group, nil) {
		delete(r.mu.leaving, id)
	}
	if group != r.mu.lowest {
		return
	}
	lowest := uint64(0)
	for id := range r.mu.groups {
		if lowest == 0 || id < lowest {
			lowest = id
		}
	}
	r.setLowestLocked(lowest)
	if d := r.mu.groups[r.mu.lowest]; d != nil {
		r.learnLocked(d)
	}
}

// sweep closes the connections of members that have left. From then on the transport refuses them,
// which tells them that they were removed.
func (r *roster) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, until := range r.mu.leaving {
		if time.Now().After(until) {
			delete(r.mu.leaving, id)
			r.node.transport.RemovePeer(id)
		}
	}
}

// lowest returns the lowest group that has begun, nil when there is none.
func (r *roster) lowest() *Group {
	r.mu.Lock()
	id := r.mu.lowest
	r.mu.Unlock()
	return r.node.Group(id)
}

// admit refuses a node that comes under a known id with another directory than the one it is known
// with. What the lost directory had acknowledged and voted may still be counted on, and the new one
// does not know it.
func (r *roster) admit(peer, incarnation uint64) error {
	m := (*r.known.Load())[peer]
	if m.Incarnation == 0 || m.Incarnation == incarnation {
		return nil
	}
	err := fmt.Errorf("the data directory of node %d is not the one that the cluster knows "+
		"(incarnation %x, not %x): it was lost, and its promises with it, or it is a copy's; "+
		"stop the node, start it with an empty directory, with join = true and an id that was never "+
		"used, and run: %s", peer, incarnation, m.Incarnation, r.replacing(peer))
	r.mu.Lock()
	news := r.mu.refused[peer] != incarnation
	r.mu.refused[peer] = incarnation
	r.mu.Unlock()
	if news {
		r.node.emit(Event{Kind: PeerRefused, Peer: peer, Detail: err.Error()})
	}
	return err
}

// replacing is the command that puts a new node, at the same addresses, in the place of a member.
func (r *roster) replacing(peer uint64) string {
	at := r.fill((*r.known.Load())[peer], peer)
	own, _ := r.node.options.member(r.node.options.ID)
	return fmt.Sprintf("connect member replace %d=%s --admin %s", peer,
		cmp.Or(at.adminAddress(), "HOST:PORT"), cmp.Or(own.adminAddress(), "HOST:PORT"))
}

// replacingSelf is the command that puts a new node, at the same addresses, in the place of this one.
func (r *roster) replacingSelf() string {
	self, via := r.node.options.ID, ""
	for _, m := range r.node.options.Members {
		if m.ID != self {
			via = cmp.Or(via, m.adminAddress())
		}
	}
	own, _ := r.node.options.member(self)
	return fmt.Sprintf("connect member replace %d=%s --admin %s", self,
		cmp.Or(own.adminAddress(), "HOST:PORT"), cmp.Or(via, "HOST:PORT"))
}

// adminAddress is where operators reach a member, "" when it is not known. One that listens on
// every address is reached where its peers find it.
func (m *Member) adminAddress() string {
	host, port, err := net.SplitHostPort(m.Admin)
	if err != nil {
		return ""
	}
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || !ip.IsUnspecified()) {
		return m.Admin
	}
	if host, _, err = net.SplitHostPort(m.Address); err != nil {
		return ""
	}
	return net.JoinHostPort(host, port)
}

// fill completes what a directory says about a member.
func (r *roster) fill(m apply.Member, id uint64) Member {
	m.ID = id
	known := (*r.known.Load())[id]
	own, _ := r.node.options.member(id)
	for _, more := range []Member{Member(known), own} {
		if m.Address == "" {
			m.Address = more.Address
		}
		if m.Client == "" {
			m.Client = more.Client
		}
		if m.Admin == "" {
			m.Admin = more.Admin
		}
	}
	if m.Incarnation == 0 {
		m.Incarnation = known.Incarnation
	}
	return Member(m)
}

// membership shows a directory to callers.
func (r *roster) membership(d *apply.Directory) Membership {
	list := func(of []uint64, without ...[]uint64) []Member {
		members := []Member{}
		for _, id := range slices.Sorted(slices.Values(of)) {
			if slices.ContainsFunc(without, func(l []uint64) bool { return slices.Contains(l, id) }) {
				continue
			}
			m, _ := d.Member(id)
			members = append(members, r.fill(m, id))
		}
		return members
	}
	s := d.State
	m := Membership{Version: d.Version, Voters: list(s.GetVoters()),
		Learners: list(s.GetLearners()), Joint: len(s.GetVotersOutgoing()) > 0}
	if m.Joint {
		m.Leaving = list(s.GetVotersOutgoing(), s.GetVoters())
	}
	return m
}

// allIDs returns every id of a configuration once, in order.
func allIDs(state *pb.ConfState) []uint64 {
	list := slices.Concat(state.GetVoters(), state.GetLearners(), state.GetVotersOutgoing(),
		state.GetLearnersNext())
	slices.Sort(list)
	return slices.Compact(list)
}

// isMember reports whether a configuration has an id in any of its parts.
func isMember(state *pb.ConfState, id uint64) bool { return slices.Contains(allIDs(state), id) }
