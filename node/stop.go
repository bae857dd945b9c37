package node

import "fmt"

// removeGroup stops a group for good and forgets its log and its snapshots, while the others go on.
// Its commands end with ErrGroupRemoved, or with ErrUnknown when they are in the log. The stages
// are left one after the other, each when nothing of the group can reach it any more:
//
//  1. It takes no more commands, and nobody mends it.
//  2. The event loop ends what waits for the core and gives the group up. The last thing it puts
//     into the Ready channel for the group is the end of it.
//  3. The log writer has reached that end: nothing of the group is written behind it.
//  4. The apply stage has ended, and the snapshot it may have begun is written or given up.
//  5. The log, then the snapshots are forgotten. After a crash before this is done the catalog
//     still says that the group was removed, and it is done again.
func (n *Node) removeGroup(g *Group) error {
	g.halt()
	g.starting.Wait()
	left := make(chan struct{})
	if g.post(func(in *contents) { in.ending = func() { close(left) } }) {
		<-left
	}
	g.apply.close()
	g.snapshots.cuts.Wait()
	err := n.keeper.forget(g.id)
	if err == nil {
		n.groups.remove(g.id)
		n.roster.forget(g.id)
		g.log.Info("group removed")
		g.emit(Event{Kind: GroupStopped, Detail: "removed"})
	}
	return err
}

// forget removes what the disk has of a group.
func (n *Node) forget(group uint64) error {
	if err := n.onLog(func() error { return n.wal.RemoveGroup(group) }); err != nil {
		return fmt.Errorf("node %d: remove the log of group %d: %w", n.options.ID, group, err)
	}
	if err := n.snaps.RemoveGroup(group); err != nil {
		return fmt.Errorf("node %d: remove the snapshots of group %d: %w", n.options.ID, group, err)
	}
	return nil
}

// halt lets the group take nothing any more.
func (g *Group) halt() {
	g.removed.Store(true)
	g.failOnce.Do(func() {
		g.failed.Store(new("the group was removed"))
		g.admission.group.end()
		g.apply.put(applyTask{stop: true})
		g.admission.group.end()
	})
	g.emit(Event{Kind: GroupStopped})
	g.worker.schedule(g)
}

// leave ends what the worker has of a group that was halted. It may have to wait for room in the
// Ready channel.
func (g *Group) leave(ending func()) {
	if ending != nil {
		g.ending = ending
	}
	if g.ending == nil {
		return
	}
	if !g.worker.room() {
		g.awaitRoom()
		return
	}
	g.refuse(g.empty(true))
	g.worker.drop(g)
	g.core = nil
	g.worker.unread.Add(1)
	g.node.ready <- ready{group: g, last: g.ending}
	g.ending = nil
}
