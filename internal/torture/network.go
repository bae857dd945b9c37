package torture

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
)

// network is all links between the nodes of a cluster. Nodes are numbered from 0.
type network struct {
	flows [][]*flow // by sender and receiver
	links [][]*link // by dialler and acceptor
}

// newNetwork makes a link for each ordered pair of nodes; peers are the addresses that they listen on.
func newNetwork(peers []string) (*network, error) {
	n := &network{}
	for from := range peers {
		n.flows = append(n.flows, make([]*flow, len(peers)))
		n.links = append(n.links, make([]*link, len(peers)))
		for to := range peers {
			n.flows[from][to] = newFlow(from, to)
		}
	}
	for from := range peers {
		for to, target := range peers {
			if from == to {
				continue
			}
			l, err := newLink(n.flows[from][to], n.flows[to][from], target)
			if err != nil {
				n.close()
				return nil, err
			}
			n.links[from][to] = l
		}
	}
	return n, nil
}

func (n *network) close() {
	n.heal()
	for _, l := range n.everyLink() {
		l.close()
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
// link must have carried bytes, and where the system lists its sockets, each connection to a peer
// port must be one of a link.
func (n *network) checkBypass(peers []string) error {
	var errs []error
	ours := map[int]bool{}
	for _, l := range n.everyLink() {
		if l.there.bytes.Load() == 0 || l.accepted.Load() == 0 {
			errs = append(errs, fmt.Errorf("nothing went from node %d to node %d through its link",
				l.there.from+1, l.there.to+1))
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
