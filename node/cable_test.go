package node_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/porttest"
	"github.com/connectraft/connect/node"
)

// cable carries the connections that one node dials to another, and can be cut: then nothing
// arrives and nothing is closed, as when a cable is pulled.
type cable struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup
	mu       struct {
		sync.Mutex
		cut   chan struct{} // closed while the cable carries; nil = it carries
		conns map[net.Conn]bool
		ended bool
	}
}

func newCable(t *testing.T, target string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &cable{listener: l, target: target}
	k.mu.conns = map[net.Conn]bool{}
	k.wg.Go(k.accept)
	return k
}

func (k *cable) accept() {
	for {
		near, err := k.listener.Accept()
		if err != nil {
			return
		}
		k.wg.Go(func() {
			defer near.Close()
			far, err := net.Dial("tcp", k.target)
			if err != nil {
				return
			}
			defer far.Close()
			if !k.keep(near, far) {
				return
			}
			var both sync.WaitGroup
			both.Go(func() { k.carry(far, near) })
			both.Go(func() { k.carry(near, far) })
			both.Wait()
		})
	}
}

func (k *cable) keep(conns ...net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		k.mu.conns[c] = true
	}
	return !k.mu.ended
}

func (k *cable) carry(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		k.mu.Lock()
		cut := k.mu.cut
		k.mu.Unlock()
		if cut != nil {
			<-cut
			return // what came while it was cut is lost
		}
		if _, writeErr := to.Write(b[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// set cuts the cable, or lets it carry again; then every connection over it breaks.
func (k *cable) set(cut bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if cut == (k.mu.cut != nil) {
		return
	}
	if cut {
		k.mu.cut = make(chan struct{})
		return
	}
	close(k.mu.cut)
	k.mu.cut = nil
	for c := range k.mu.conns {
		c.Close()
	}
	clear(k.mu.conns)
}

func (k *cable) close() {
	k.set(false)
	k.mu.Lock()
	k.mu.ended = true
	for c := range k.mu.conns {
		c.Close()
	}
	k.mu.Unlock()
	k.listener.Close()
	k.wg.Wait()
}

// linkedCluster is nodes with many groups each, and links between them that can be cut.
type linkedCluster struct {
	*testing.T
	dir       string
	groups    uint64
	tick      time.Duration
	addresses map[uint64]string
	links     map[[2]uint64]*cable // who dials whom
	nodes     map[uint64]*node.Node
}

func newLinkedCluster(t *testing.T, groups uint64, tick time.Duration) *linkedCluster {
	t.Helper()
	c := &linkedCluster{T: t, dir: t.TempDir(), groups: groups, tick: tick,
		addresses: map[uint64]string{}, links: map[[2]uint64]*cable{},
		nodes: map[uint64]*node.Node{}}
	for id := uint64(1); id <= 3; id++ {
		c.addresses[id] = porttest.Address(t)
	}
	for from := range c.addresses {
		for to, address := range c.addresses {
			if from != to {
				c.links[[2]uint64{from, to}] = newCable(t, address)
			}
		}
	}
	t.Cleanup(func() {
		showOnFailure(t, c.nodes)
		for _, n := range c.nodes {
			n.Close()
		}
		for _, l := range c.links {
			l.close()
		}
	})
	var starts sync.WaitGroup // they ask each other before they begin
	for id := range c.addresses {
		c.open(id)
	}
	for id := range c.addresses {
		starts.Go(func() { c.start(id) })
	}
	starts.Wait()
	return c
}

func (c *linkedCluster) open(id uint64) {
	c.Helper()
	o := node.Options{ClusterID: "test", ID: id, Dir: filepath.Join(c.dir, fmt.Sprint(id)),
		Tick: c.tick, SyncTimeout: waitMax, SegmentBytes: 1 << 20,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for other, address := range c.addresses {
		if other != id {
			address = c.links[[2]uint64{id, other}].listener.Addr().String()
		}
		o.Members = append(o.Members, node.Member{ID: other, Address: address})
	}
	n, err := node.Open(o)
	if err != nil {
		c.Fatal(err)
	}
	c.nodes[id] = n
}

func (c *linkedCluster) start(id uint64) {
	for group := uint64(1); group <= c.groups; group++ {
		if _, err := c.nodes[id].StartGroup(group, &sum{}); err != nil {
			c.Error(err)
		}
	}
}

func (c *linkedCluster) restart(id uint64) {
	c.Helper()
	if err := c.nodes[id].Close(); err != nil {
		c.Errorf("close node %d: %v", id, err)
	}
	c.open(id)
	c.start(id)
}

// cutOff cuts or mends every cable of a node.
func (c *linkedCluster) cutOff(id uint64, cut bool) {
	for ends, l := range c.links {
		if ends[0] == id || ends[1] == id {
			l.set(cut)
		}
	}
}

func (c *linkedCluster) within(what string, condition func() bool) {
	c.Helper()
	poll(c.T, time.Minute, what, condition)
}

// pass lets ticks of time pass: what happens meanwhile is not waited for.
func (c *linkedCluster) pass(ticks int64) { time.Sleep(time.Duration(ticks) * c.tick) }

// rest waits until every group rests on every running node.
func (c *linkedCluster) rest() {
	c.Helper()
	c.within("every group rests on every node", func() bool {
		for _, n := range c.nodes {
			if !resting(n.Groups()) {
				return false
			}
		}
		return true
	})
}
