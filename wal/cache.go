package wal

import "go.etcd.io/raft/v3/raftpb"

// cacheEntryCost is what an entry is counted for in the cache besides its data.
const cacheEntryCost = 128

func cacheCost(e *raftpb.Entry) int64 { return cacheEntryCost + int64(len(e.GetData())) }

// cache bounds the recent entries that all groups keep in memory. The entries themselves hang at
// their groups; the cache has the order in which they came, so that the oldest go first. It
// belongs to the appender.
type cache struct {
	limit, bytes int64
	// queue has a record for each append of a group, oldest first from head on.
	queue []cacheRecord
	head  int
	// sweepAt is the length of the queue at which dead records are swept out.
	sweepAt int
}

// cacheRecord says that entries of the group up to last came in. It is dead once the group has
// dropped them.
type cacheRecord struct {
	group *Group
	last  uint64
}

func (r cacheRecord) dead() bool {
	return len(r.group.cached) == 0 || r.last < r.group.cachedFirst
}

const cacheSweepMin = 1024

// add hands entries to the group, which has dropped everything from the first of them on. The
// caller holds the group's mu.
func (c *cache) add(g *Group, entries []*raftpb.Entry) {
	if len(g.cached) == 0 {
		g.cachedFirst = entries[0].GetIndex()
	}
	g.cached = append(g.cached, entries...)
	for _, e := range entries {
		c.bytes += cacheCost(e)
	}
	last := entries[len(entries)-1].GetIndex()
	c.queue = append(c.queue, cacheRecord{group: g, last: last})
}

// truncate drops what the group has cached from index on.
func (c *cache) truncate(g *Group, index uint64) {
	if len(g.cached) == 0 || index >= g.cachedFirst+uint64(len(g.cached)) {
		return
	}
	keep := 0
	if index > g.cachedFirst {
		keep = int(index - g.cachedFirst)
	}
	c.discount(g.cached[keep:])
	g.cached = g.cached[:keep]
}

// compact drops what the group has cached up to index.
func (c *cache) compact(g *Group, index uint64) {
	if len(g.cached) == 0 || index < g.cachedFirst {
		return
	}
	n := min(int(index+1-g.cachedFirst), len(g.cached))
	c.discount(g.cached[:n])
	g.cached = g.cached[n:]
	g.cachedFirst += uint64(n)
	if len(g.cached) == 0 {
		g.cached = nil
	}
}

// discount takes entries out of the account and out of their slots, for the collector.
func (c *cache) discount(entries []*raftpb.Entry) {
	for _, e := range entries {
		c.bytes -= cacheCost(e)
	}
	clear(entries)
}

// evict drops the oldest entries until the limit holds. It takes the mu of each group it changes.
func (c *cache) evict() {
	for c.head < len(c.queue) {
		r := c.queue[c.head]
		if !r.dead() {
			if c.bytes <= c.limit {
				break
			}
			r.group.mu.Lock()
			c.compact(r.group, r.last)
			r.group.mu.Unlock()
		}
		c.queue[c.head] = cacheRecord{}
		c.head++
	}
	if len(c.queue) >= max(c.sweepAt, cacheSweepMin) {
		c.sweep()
	}
}

// sweep moves the records that are alive to the front of the queue.
func (c *cache) sweep() {
	n := 0
	for _, r := range c.queue[c.head:] {
		if !r.dead() {
			c.queue[n] = r
			n++
		}
	}
	clear(c.queue[n:])
	c.queue, c.head = c.queue[:n], 0
	c.sweepAt = 2 * n
}
