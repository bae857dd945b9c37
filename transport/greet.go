package transport

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// strangerError tells that the other side does not speak the peer protocol at all.
type strangerError struct{ start []byte }

func (e *strangerError) Error() string {
	return "not a Connect node: it speaks " + e.guess()
}

// guess names what usually ends up on a wrong port.
func (e *strangerError) guess() string {
	start := string(e.start)
	for _, word := range []string{"GET ", "POST", "HEAD", "PUT ", "OPTI", "DELE", "HTTP", "PRI "} {
		if strings.HasPrefix(start, word) {
			return "HTTP"
		}
	}
	if len(e.start) >= 2 && e.start[0] == 0x16 && e.start[1] == 0x03 {
		return "TLS"
	}
	return fmt.Sprintf("something that begins with %q", e.start[:min(len(e.start), 8)])
}

// refusedError is how a dialler sees a refusal.
type refusedError struct {
	reason refusalReason
	node   uint64
	text   string
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("refused by node %d: %s: %s", e.node, e.reason, e.text)
}

// tellRefusal tells the handler of a refusal that concerns this node itself, if it wants to know.
func (t *Transport) tellRefusal(peer uint64, err error) {
	h, ok := t.options.Handler.(RefusalHandler)
	if !ok {
		return
	}
	r, ok := errors.AsType[*refusedError](err)
	if ok && (r.reason == notAdmitted || r.reason == removedNode) {
		h.PeerRefused(peer, r.reason == removedNode, r.text)
	}
}

// greet is the dialler's side of the handshake. It leaves no deadline on conn.
func (t *Transport) greet(conn net.Conn, target uint64, lane uint8) (welcome, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return welcome{}, err
	}
	h := hello{
		versionMin: protocolVersion, versionMax: protocolVersion,
		node: t.options.NodeID, target: target, incarnation: t.options.Incarnation,
		lane: lane, cluster: t.options.ClusterID, address: t.options.Address,
	}
	if _, err := conn.Write(h.encode()); err != nil {
		return welcome{}, fmt.Errorf("handshake: %w", err)
	}
	w, err := readWelcome(conn)
	if err != nil {
		return welcome{}, err
	}
	if w.reason != accepted {
		return welcome{}, &refusedError{reason: w.reason, node: w.node, text: w.text}
	}
	if err := t.checkWelcome(w, target); err != nil {
		return welcome{}, err
	}
	return w, conn.SetDeadline(time.Time{})
}

// checkWelcome guards against an acceptor that is less careful than ours.
func (t *Transport) checkWelcome(w welcome, target uint64) error {
	if w.version != protocolVersion {
		return fmt.Errorf("handshake: node %d chose protocol version %d", w.node, w.version)
	}
	if w.cluster != t.options.ClusterID {
		return fmt.Errorf("handshake: node %d is of cluster %q", w.node, w.cluster)
	}
	if w.node != target {
		return fmt.Errorf("handshake: dialled node %d, reached node %d", target, w.node)
	}
	return nil
}

// judge is the acceptor's decision on a hello. The text completes the line that both sides log.
func (t *Transport) judge(h hello) (refusalReason, string) {
	o := &t.options
	switch {
	case h.versionMin > protocolVersion || h.versionMax < protocolVersion:
		return unsupportedVersion, fmt.Sprintf(
			"node %d speaks peer protocol %d to %d, node %d speaks %d: upgrade the older one",
			h.node, h.versionMin, h.versionMax, o.NodeID, protocolVersion)
	case h.cluster != o.ClusterID:
		return wrongCluster, fmt.Sprintf("node %d belongs to cluster %q, node %d to cluster %q",
			h.node, h.cluster, o.NodeID, o.ClusterID)
	case h.node == o.NodeID && h.incarnation == o.Incarnation && h.address == o.Address:
		return ownID, fmt.Sprintf("node %d reached itself at the address it has for node %d",
			h.node, h.target)
	case h.node == o.NodeID:
		return ownID, fmt.Sprintf("the node at %s and the node at %s both have id %d",
			h.address, o.Address, o.NodeID)
	case h.target != o.NodeID:
		return wrongNode, fmt.Sprintf("node %d dialled node %d, but this is node %d at %s",
			h.node, h.target, o.NodeID, o.Address)
	case h.node == 0 || h.lane > laneSnapshot || h.address == "":
		return malformedHello, fmt.Sprintf("node id %d, lane %d, address %q",
			h.node, h.lane, h.address)
	}
	if err := t.admit(h.node, h.incarnation, h.address); err != nil {
		return notAdmitted, err.Error()
	}
	return accepted, ""
}

// admit asks the handler, if it has an opinion.
func (t *Transport) admit(node, incarnation uint64, address string) error {
	if a, ok := t.options.Handler.(Admitter); ok {
		return a.AdmitPeer(node, incarnation, address)
	}
	return nil
}
