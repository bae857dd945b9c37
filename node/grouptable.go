package node

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

const groupShards = 256

// groupTable is the groups of a node by their ids. The transport looks a group up for each frame
// without a lock; a change copies one shard, so that ten thousand groups can come one after the
// other.
type groupTable struct {
	shards [groupShards]atomic.Pointer[map[uint64]*Group]
	change sync.Mutex
}

// get returns nil for an id that is not there.
func (t *groupTable) get(id uint64) *Group {
	shard := t.shards[id%groupShards].Load()
	if shard == nil {
		return nil
	}
	return (*shard)[id]
}

// add reports false, and does nothing, when the id is there already.
func (t *groupTable) add(g *Group) bool {
	t.change.Lock()
	defer t.change.Unlock()
	if t.get(g.id) != nil {
		return false
	}
	t.replace(g.id, func(shard map[uint64]*Group) { shard[g.id] = g })
	return true
}

func (t *groupTable) remove(id uint64) {
	t.change.Lock()
	defer t.change.Unlock()
	t.replace(id, func(shard map[uint64]*Group) { delete(shard, id) })
}

// replace changes a copy of the shard of an id; the caller holds the mutex.
func (t *groupTable) replace(id uint64, change func(map[uint64]*Group)) {
	place := &t.shards[id%groupShards]
	shard := map[uint64]*Group{}
	if old := place.Load(); old != nil {
		shard = maps.Clone(*old)
	}
	change(shard)
	place.Store(&shard)
}

// each calls visit for every group that is there all the time, in no order.
func (t *groupTable) each(visit func(*Group)) {
	for i := range t.shards {
		if shard := t.shards[i].Load(); shard != nil {
			for _, g := range *shard {
				visit(g)
			}
		}
	}
}

// list returns the groups by id.
func (t *groupTable) list() []*Group {
	var list []*Group
	t.each(func(g *Group) { list = append(list, g) })
	slices.SortFunc(list, func(a, b *Group) int { return cmp.Compare(a.id, b.id) })
	return list
}
