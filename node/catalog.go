package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connectraft/connect/internal/apply"
)

// The log of group 1 says which other groups exist: it is the catalog. Every node that runs group 1
// starts and stops what the catalog says, when it is applied and after a start of the node, with
// state machines of Options.Machines.
//
// A group begins with those as its voters who have a vote in group 1 at the entry that creates it,
// on every node from the same imaginary snapshot. Such a beginning must not happen twice, so a node
// whose log has nothing of the group asks who it is first:
//
//   - It waits until group 1 has caught up. After a start the catalog is that of a snapshot or of
//     the part of the log that is known to be committed, and a group in it may be one that was
//     removed.
//   - A founder whose data directory is the one that it had when the group was created knows that
//     the group is new to it: ids never return, and the log names every group that it has taken in
//     even when it has lost it (wal.Group.Damage). So the group begins at once. The entry names the
//     incarnations of the founders' directories, which the node that created the group has from
//     their handshakes.
//   - Any other founder may have lost the group with its directory, and asks the others (mend.go).
//   - A node that is no founder waits to be added, as it does to any group.
//
// A removed group is stopped and forgotten (stop.go). A crash in the midst leaves it in the log;
// the catalog still says that it was removed, and the next start forgets it.

// keptAtOnce is how many groups of the catalog a node starts or removes at a time. Their beginnings
// share the syncs of the log.
const keptAtOnce = 256

// retryTicks is after how many ticks is tried again what has failed.
const retryTicks = 20

// keeper keeps the groups of a node as the catalog says. Its goroutine runs as long as the node.
// What it has done for a group runs beside it, because a state machine may keep that waiting.
type keeper struct {
	node   *Node
	wake   chan struct{}
	ended  chan struct{}
	turns  chan struct{}            // a token for each group that is being started or removed
	forget func(group uint64) error // removes what the disk has
	// wanted is the catalog as of the newest entry applied here, nil before group 1 runs.
	wanted atomic.Pointer[apply.Catalog]
	swept  bool // the goroutine's: what removed groups had left on the disk at the start is gone
	mu     struct {
		sync.Mutex
		busy     map[uint64]bool  // groups that are being started or removed
		failures map[uint64]error // of groups that could not be
		changed  chan struct{}    // closed when something was done
	}
}

func newKeeper(n *Node) *keeper {
	k := &keeper{node: n, forget: n.forget, wake: make(chan struct{}, 1),
		ended: make(chan struct{}), turns: make(chan struct{}, keptAtOnce)}
	k.mu.busy, k.mu.failures = map[uint64]bool{}, map[uint64]error{}
	k.mu.changed = make(chan struct{})
	return k
}

// observe takes the catalog from the apply stage of group 1.
func (k *keeper) observe(stage *apply.Stage) {
	if c := stage.Catalog(); k.wanted.Swap(c) != c {
		k.kick()
	}
}

func (k *keeper) kick() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *keeper) run() {
	defer close(k.ended)
	again := time.NewTicker(retryTicks * k.node.options.Tick)
	defer again.Stop()
	var jobs sync.WaitGroup
	defer jobs.Wait()
	for {
		select {
		case <-k.wake:
		case <-again.C:
			if !k.failing() {
				continue
			}
		case <-k.node.stopping:
			return
		}
		if c := k.wanted.Load(); c != nil {
			k.follow(c, &jobs)
		}
	}
}

// follow makes the groups that run those of the catalog.
func (k *keeper) follow(c *apply.Catalog, jobs *sync.WaitGroup) {
	n := k.node
	n.groups.each(func(g *Group) {
		if g.created && c.Removed(g.id) {
			k.do(jobs, g.id, func() error { return n.removeGroup(g) })
		}
	})
	k.sweep(c)
	for _, created := range c.Groups() {
		if n.Group(created.ID) == nil && k.mayStart(created) {
			k.do(jobs, created.ID, func() error { return n.startCreated(created) })
		}
	}
}

// do starts or removes a group, unless that is being done, and looks at the catalog again
// afterwards.
func (k *keeper) do(jobs *sync.WaitGroup, group uint64, work func() error) {
	k.mu.Lock()
	busy := k.mu.busy[group]
	k.mu.busy[group] = true
	k.mu.Unlock()
	if busy {
		return
	}
	jobs.Go(func() {
		err := ErrClosed
		select {
		case k.turns <- struct{}{}:
			err = work()
			<-k.turns
		case <-k.node.stopping:
		}
		k.note(group, err)
		k.mu.Lock()
		delete(k.mu.busy, group)
		close(k.mu.changed)
		k.mu.changed = make(chan struct{})
		behind := err == nil && k.behind(group) // what has failed waits for its next try
		k.mu.Unlock()
		if behind {
			k.kick()
		}
	})
}

// behind reports whether the catalog has changed its mind about a group while it was busy.
func (k *keeper) behind(group uint64) bool {
	g := k.node.Group(group)
	return g != nil && g.created && k.wanted.Load().Removed(group)
}

// sweep forgets what removed groups have left on the disk, because the node ended too soon. After a
// start the catalog may be an old one, so it does that with each one until group 1 has caught up.
func (k *keeper) sweep(c *apply.Catalog) {
	k.mu.Lock()
	for id := range k.mu.failures {
		if c.Removed(id) && k.node.Group(id) == nil {
			delete(k.mu.failures, id) // it could not be started, and need not be any more
		}
	}
	k.mu.Unlock()
	if k.swept {
		return
	}
	k.swept = k.caughtUp() && k.wanted.Load() == c
	ids := append(k.node.wal.Groups(), k.node.snaps.Groups()...)
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		switch {
		case !c.Removed(id) || k.node.Group(id) != nil:
		case k.isBusy(id):
			k.swept = false
		default:
			err := k.forget(id)
			k.note(id, err)
			k.swept = k.swept && err == nil
		}
	}
}

func (k *keeper) isBusy(group uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.busy[group]
}

// mayStart reports whether a group may start now: with something in the log it goes on, and without
// it must be sure that the catalog is not an old one. The one that it was found in may have been
// read before group 1 had caught up, so the newest one counts.
func (k *keeper) mayStart(created apply.CreatedGroup) bool {
	log := k.node.wal.Group(created.ID)
	return log.LastIndex() > 0 || log.Damage() != nil ||
		k.caughtUp() && !k.wanted.Load().Removed(created.ID)
}

// caughtUp reports whether a catalog that is read from now on is not an old one.
func (k *keeper) caughtUp() bool {
	first := k.node.Group(apply.FirstGroup)
	return first != nil && first.caughtUp.Load()
}

// note remembers why a group could not be started or removed, and logs it once.
func (k *keeper) note(group uint64, err error) {
	k.mu.Lock()
	before := k.mu.failures[group]
	if err == nil {
		delete(k.mu.failures, group)
	} else {
		k.mu.failures[group] = err
	}
	k.mu.Unlock()
	if err == nil || errors.Is(err, ErrClosed) || before != nil && before.Error() == err.Error() {
		return
	}
	k.node.log.Error("group not kept as the catalog says", "group", group, "err", err)
	k.node.emit(Event{Kind: GroupFailed, Group: group, Detail: err.Error()})
}

func (k *keeper) failing() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.mu.failures) > 0
}

// failure returns why a group could not be started or removed, and a channel that is closed when
// that may have changed.
func (k *keeper) failure(group uint64) (error, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.failures[group], k.mu.changed
}

// startCreated starts a group of the catalog.
func (n *Node) startCreated(created apply.CreatedGroup) error {
	if n.options.Machines == nil {
		return errors.New("node: Options.Machines is not set")
	}
	machine, err := n.options.Machines(created.ID)
	if err == nil && machine == nil {
		err = errors.New("nil: want a state machine")
	}
	if err != nil {
		return fmt.Errorf("node: state machine of group %d: %w", created.ID, err)
	}
	g := n.newGroup(created.ID, machine)
	g.created, g.members.first = true, nil
	for _, f := range created.Founders {
		g.members.first = append(g.members.first, Member{ID: f.ID})
		if f.ID == n.options.ID && f.Incarnation == n.Incarnation() && g.newcomer.Load() {
			g.newcomer.Store(false) // the group is new, and was not lost
		}
	}
	return n.startNew(g)
}

// CreateGroup creates a group in the cluster and returns when it runs on this node. Its voters are
// those of group 1. It may be called on any node that runs group 1. [ErrGroupExists],
// [ErrGroupRemoved], [ErrGroupID] and [ErrTooManyGroups] refuse it; after any other error the group
// may have been created, and the call may be repeated: it then ends with ErrGroupExists.
func (n *Node) CreateGroup(ctx context.Context, id uint64) error {
	first, err := n.catalogGroup(id)
	if err != nil {
		return err
	}
	if n.options.Machines == nil {
		return errors.New("node: create group: Options.Machines is not set")
	}
	if g := n.Group(id); g != nil && !g.created {
		return fmt.Errorf("node: create group %d: %w", id, ErrGroupExists)
	}
	command := apply.CreateGroup(id, rand.Uint64(), n.founders(first))
	if err := first.changeCatalog(ctx, command); err != nil {
		return fmt.Errorf("node: create group %d: %w", id, err)
	}
	return n.awaitGroup(ctx, id, func() bool {
		g := n.Group(id)
		return g != nil && g.begun.Load() || n.keeper.wanted.Load().Removed(id)
	})
}

// RemoveGroup removes a group from the cluster, with everything in it, and returns when it has
// stopped on this node; the others follow as soon as they know. Its id never returns. Commands on
// their way end with [ErrGroupRemoved], or [ErrUnknown]. It may be called on any node that runs
// group 1, and repeated. [ErrNoGroup] says that it was never there.
func (n *Node) RemoveGroup(ctx context.Context, id uint64) error {
	first, err := n.catalogGroup(id)
	if err != nil {
		return err
	}
	if err := first.changeCatalog(ctx, apply.RemoveGroup(id)); err != nil {
		return fmt.Errorf("node: remove group %d: %w", id, err)
	}
	return n.awaitGroup(ctx, id, func() bool {
		g := n.Group(id)
		return n.keeper.wanted.Load().Removed(id) && (g == nil || !g.created)
	})
}

// catalogGroup returns the group that has the catalog, for a change that concerns id.
func (n *Node) catalogGroup(id uint64) (*Group, error) {
	if id <= apply.FirstGroup || id > apply.GroupIDMax {
		return nil, fmt.Errorf("node: group %d: %w", id, ErrGroupID)
	}
	first := n.Group(apply.FirstGroup)
	if first == nil {
		return nil, fmt.Errorf("node: group %d has the catalog and does not run here: %w",
			apply.FirstGroup, ErrNoGroup)
	}
	return first, nil
}

// changeCatalog replicates a command of the catalog. The error is one of its refusals, or that of
// the command.
func (g *Group) changeCatalog(ctx context.Context, command []byte) error {
	result, err := g.proposeSystem(ctx, command)
	if err != nil {
		return err
	}
	return apply.ParseCatalogAnswer(result.Answer)
}

// founders returns the incarnations of the voters of group 1, as far as they are known.
func (n *Node) founders(first *Group) []apply.Founder {
	connected := map[uint64]uint64{n.options.ID: n.Incarnation()}
	for _, peer := range n.transport.Stats() {
		connected[peer.ID] = peer.Incarnation
	}
	directory := first.apply.directory.Load()
	var founders []apply.Founder
	for _, id := range directory.State.GetVoters() {
		f := apply.Founder{ID: id, Incarnation: connected[id]}
		if m, ok := directory.Member(id); ok && m.Incarnation != 0 {
			f.Incarnation = m.Incarnation
		}
		founders = append(founders, f)
	}
	return founders
}

// awaitGroup waits until the keeper has brought about what the catalog says of a group.
func (n *Node) awaitGroup(ctx context.Context, id uint64, done func() bool) error {
	for {
		err, changed := n.keeper.failure(id)
		if done() {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-time.After(n.options.Tick): // a group may begin later than it was taken in
		case <-n.stopping:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("node: group %d: the catalog has changed, and this node has not "+
				"followed before %w", id, context.Cause(ctx))
		}
	}
}
