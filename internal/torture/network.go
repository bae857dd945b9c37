package torture

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
)

// network is all ways between the nodes of a cluster. The places of nodes are numbered from 0; which
// node has which place may change.
type network struct {
	flows    [][]*flow // by sender and receiver
	links    [][]*link // by dialler and acceptor
	gateways []*gateway

	mu struct {
		sync.Mutex
		places map[uint64]int // by id; of those of the past, too
	}
}

// newNetwork makes a gateway for each place; peers are the addresses that the nodes listen on.
func newNetwork(peers []string) (*network, error) {
	n := &network{}
	n.mu.places = map[uint64]int{}
	for from := range peers {
		n.flows = append(n.flows, make([]*flow, len(peers)))
		n.links = append(n.links, make([]*link, len(peers)))
		for to := range peers {
			n.flows[from][to] = newFlow(from, to)
		}
	}
	for to, target := range peers {
		for from := range peers {
			if from != to {
				n.links[from][to] = newLink(n.flows[from][to], n.flows[to][from], target)
			}
		}
		g, err := newGateway(n, to)
		if err != nil {
			n.close()
			return nil, err
		}
		n.gateways = append(n.gateways, g)
	}
	return n, nil
}

// settle notes that the node of an id has a place.
func (n *network) settle(id uint64, place int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.places[id] = place
}

func (n *network) place(id uint64) (place int, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	place, ok = n.mu.places[id]
	return place, ok
}

func (n *network) close() {
	n.heal()
	for _, g := range n.gateways {
		g.close()
	}
}

func (n *network) everyLink() (links []*link) {
	for _, row := range n.links {
		for _, l := range row {
			if l != nil {
				links = append(links, l)
			}
		}
	}
	return links
}

// between returns the flows from any of some nodes to any of others.
func (n *network) between(from, to []int) (flows []*flow) {
	for _, a := range from {
		for _, b := range to {
			if a != b {
				flows = append(flows, n.flows[a][b])
			}
		}
	}
	return flows
}

// heal ends every fault.
func (n *network) heal() {
	for _, row := range n.flows {
		for _, f := range row {
			f.setCut(false)
			f.setDelay(0, 0)
			f.setDamage(false)
		}
	}
}

// checkBypass returns an error if the nodes talk to each other by another way than the links: every
// link between members must have carried bytes, and where the system lists its sockets, each
// connection to a peer port must be one of a link.
func (n *network) checkBypass(peers []string, members []int) error {
	var errs []error
	ours := map[int]bool{}
	for _, l := range n.everyLink() {
		from, to := l.there.from, l.there.to
		if slices.Contains(members, from) && slices.Contains(members, to) &&
			(l.there.bytes.Load() == 0 || l.accepted.Load() == 0) {
			errs = append(errs, fmt.Errorf("nothing went from place %d to place %d through its link",
				from+1, to+1))
		}
	}
	sockets, err := establishedSockets()
	if err != nil {
		return errors.Join(errs...) // a system without such a list
	}
	for _, l := range n.everyLink() { // after the list, so that it has nothing newer
		for _, r := range l.open() {
			ours[portOf(r.acceptor.LocalAddr().String())] = true
		}
	}
	for _, s := range sockets {
		toPeer := slices.ContainsFunc(peers, func(p string) bool { return portOf(p) == s.remote })
		if toPeer && !ours[s.local] {
			errs = append(errs, fmt.Errorf("a connection from port %d to peer port %d bypasses the "+
				"links", s.local, s.remote))
		}
	}
	return errors.Join(errs...)
}

func portOf(address string) int {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	p, _ := strconv.Atoi(port)
	return p
}
