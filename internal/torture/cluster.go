package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/connectraft/connect/internal/children"
)

// electionTimeout is what the configuration of the nodes amounts to: a node campaigns after one to
// two times this without a leader.
const electionTimeout = 500 * time.Millisecond

// requestTimeout is the cluster's limits.request_timeout.
const requestTimeout = 2 * time.Second

// cluster is the nodes and the network between them. There is a place more than nodes, for one that
// joins. A member that leaves frees its place for another, which has a new id.
type cluster struct {
	places  []*process
	nodes   []*process // those that are to run; only the goroutine of the run changes them
	network *network
	disks   *disks
	starter *children.Starter
	sizes   string // of segments, snapshots and so on, as the configuration has them
	newest  uint64 // the newest id; none is used twice
}

// newCluster prepares a cluster of size nodes in dir and starts nothing.
func newCluster(dir, binary string, size int, random *rand.Rand, f *findings) (*cluster, error) {
	places := size + 1
	addresses, err := freeAddresses(3*places, random)
	if err != nil {
		return nil, err
	}
	c := &cluster{disks: newDisks(), sizes: drawSizes(random), starter: children.New()}
	var peers []string
	for i := range places {
		p := &process{number: i, client: addresses[3*i], peer: addresses[3*i+1],
			admin: addresses[3*i+2], binary: binary, findings: f,
			starter: c.starter}
		name := filepath.Join(dir, fmt.Sprintf("place%d", i+1))
		p.log, p.config, p.dir = name+".log", name+".toml", filepath.Join(name, "data")
		if err := os.Mkdir(name, 0o755); err != nil {
			return nil, errors.Join(err, c.close())
		}
		c.disks.mount(name)
		c.places, peers = append(c.places, p), append(peers, p.peer)
	}
	if c.network, err = newNetwork(peers); err != nil {
		return nil, errors.Join(err, c.close())
	}
	c.nodes = slices.Clone(c.places[:size])
	for _, p := range c.nodes {
		c.name(p)
	}
	for _, p := range c.nodes {
		if err := c.configure(p, false); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

// name gives a place's node an id that no node had before.
func (c *cluster) name(p *process) {
	c.newest++
	p.identity.Store(c.newest)
	c.network.settle(c.newest, p.number)
}

// drawSizes draws sizes so small that segments end and snapshots are cut and sent all the time.
func drawSizes(random *rand.Rand) string {
	var b strings.Builder
	segment := []string{"128KiB", "256KiB", "1MiB"}[random.IntN(3)]
	fmt.Fprintf(&b, "[raft]\ntick = \"%v\"\nelection_ticks = 10\n", electionTimeout/10)
	fmt.Fprintf(&b, "[log]\nsegment = %q\ncache = \"1MiB\"\n", segment)
	fmt.Fprintf(&b, "[snapshot]\nentries = %d\n", 50+random.IntN(400))
	fmt.Fprintf(&b, "[limits]\ncommand = \"16KiB\"\nentry = \"32KiB\"\nrequest_timeout = \"%v\"\n",
		requestTimeout)
	return b.String()
}

// configure writes the file of a node, in which the others are where their gateways are. Nobody
// writes it again when members come and go.
func (c *cluster) configure(p *process, join bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "[cluster]\nid = \"torture\"\n")
	for _, m := range c.nodes {
		peer := c.network.gateways[m.number].address()
		if m == p {
			peer = p.peer
		}
		fmt.Fprintf(&b, "[[member]]\nid = %d\npeer = %q\nclient = %q\nadmin = %q\njoin = %t\n",
			m.id(), peer, m.client, m.admin, join && m == p)
	}
	b.WriteString(c.sizes)
	return os.WriteFile(p.config, []byte(b.String()), 0o644)
}

// freeAddresses returns loopback addresses on which nothing listens. They are below the ports that
// systems give to outgoing connections, so that they stay free while a node is down.
func freeAddresses(count int, random *rand.Rand) (addresses []string, _ error) {
	const first, last, attempts = 12_000, 32_000, 10_000
	for range attempts {
		address := fmt.Sprintf("127.0.0.1:%d", first+random.IntN(last-first))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		defer l.Close() // at the end, so that none is drawn twice
		if addresses = append(addresses, address); len(addresses) == count {
			return addresses, nil
		}
	}
	return nil, fmt.Errorf("no free ports from %d to %d", first, last)
}

// close ends all nodes at once and takes the network down.
func (c *cluster) close() error {
	for _, p := range c.places {
		p.signal(os.Kill)
	}
	for _, p := range c.places {
		p.kill()
		p.waiters.Wait()
	}
	if c.network != nil {
		c.network.close()
	}
	c.starter.Close()
	return c.disks.close()
}

// startAll starts every node that does not run.
func (c *cluster) startAll() error {
	var errs []error
	for _, p := range c.nodes {
		if err := p.start(); err != nil && !errors.Is(err, errRuns) {
			errs = append(errs, fmt.Errorf("start node %d: %w", p.id(), err))
		}
	}
	return errors.Join(errs...)
}

// mend ends every fault: links, disks, and nodes that are paused or down.
func (c *cluster) mend() error {
	c.network.heal()
	err := c.disks.empty()
	for _, p := range c.nodes {
		if running := p.running(); running != nil {
			_ = resume(running)
		}
	}
	return errors.Join(err, c.startAll())
}

// checkBypass is network.checkBypass for this cluster.
func (c *cluster) checkBypass() error {
	var peers []string
	for _, p := range c.places {
		peers = append(peers, p.peer)
	}
	var members []int
	for _, p := range c.nodes {
		members = append(members, p.number)
	}
	return c.network.checkBypass(peers, members)
}

// leader returns the node that leads in the highest term, nil when there is none.
func (c *cluster) leader(ctx context.Context) (leader *process, term uint64) {
	for _, p := range c.nodes {
		if p.running() == nil {
			continue
		}
		if s, err := p.status(ctx); err == nil && s.Role == "leader" && s.Term > term {
			leader, term = p, s.Term
		}
	}
	return leader, term
}

// awaitLeader waits for a leader; without one there is nothing to break yet, and whoever waits for
// service finds out why.
func (c *cluster) awaitLeader(ctx context.Context) (leader *process, term uint64, _ error) {
	err := within(ctx, 20*time.Second, func() error {
		if leader, term = c.leader(ctx); leader == nil {
			return not("no leader")
		}
		return nil
	})
	return leader, term, err
}

// awaitReady waits until every node says that it serves. A node that has ended is started again.
func (c *cluster) awaitReady(ctx context.Context, limit time.Duration) error {
	return within(ctx, limit, func() error {
		if err := c.startAll(); err != nil {
			return err
		}
		for _, p := range c.nodes {
			if err := p.ready(ctx); err != nil {
				return fmt.Errorf("node %d is not ready: %w", p.id(), err)
			}
			p.filled.Store(false)
		}
		return nil
	})
}

// within polls until condition returns nil. At the end of limit it returns what condition last said.
func within(ctx context.Context, limit time.Duration, condition func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %w", limit, err)
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}
