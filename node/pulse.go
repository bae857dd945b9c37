package node

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// pulse knows which of the other nodes live. Every node sends a beat to each peer with every tick
// of its first event loop. One that has not been heard for an election timeout is silent.
type pulse struct {
	node *Node
	// life tells this life of the node from every other.
	life uint64
	// now is the ticks of this life.
	now atomic.Int64
	mu  struct {
		sync.RWMutex
		peers map[uint64]*pulsePeer
	}
}

type pulsePeer struct {
	life  uint64
	heard int64 // by now
	lives bool
}

func newPulse(n *Node) *pulse {
	p := &pulse{node: n, life: rand.Uint64()}
	p.mu.peers = map[uint64]*pulsePeer{}
	return p
}

// lives reports whether a peer was heard within the last election timeout.
func (p *pulse) lives(peer uint64) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	known := p.mu.peers[peer]
	return known != nil && known.lives
}

// tick sends the beats, and makes groups rise whose leader, or one of whose followers, has fallen
// silent.
func (p *pulse) tick() {
	now := p.now.Add(1)
	if p.node.Err() != nil {
		return // a node that cannot go on does not live
	}
	beat := binary.LittleEndian.AppendUint64(nil, p.life)
	for _, peer := range p.node.transport.Peers() {
		// Whoever does not hear it takes this node for silent, which is what it is then.
		_ = p.node.transport.SendUrgent(peer, 0, kindBeat, beat)
	}
	limit := int64(p.node.options.ElectionTicks)
	p.mu.Lock()
	var silent []uint64
	for id, peer := range p.mu.peers {
		if peer.lives && now-peer.heard >= limit {
			peer.lives = false
			silent = append(silent, id)
		}
	}
	p.mu.Unlock()
	for _, peer := range silent {
		p.node.log.Debug("peer silent", "peer", peer)
		p.node.stirWhere(func(g *Group) bool { return g.leads() || g.lead.Load() == peer },
			whisper{from: peer, silent: int(limit)})
	}
}

// heard notes a beat. A peer that was silent may need what the leaders here have; one in another
// life leads nothing of what it led.
func (p *pulse) heard(id, life uint64) {
	p.mu.Lock()
	peer := p.mu.peers[id]
	if peer == nil {
		peer = &pulsePeer{}
		p.mu.peers[id] = peer
	}
	rises := !peer.lives || peer.life != life
	peer.life, peer.heard, peer.lives = life, p.now.Load(), true
	p.mu.Unlock()
	if rises {
		p.node.stirWhere(func(g *Group) bool { return g.leads() || g.lead.Load() == id },
			whisper{from: id})
	}
}
