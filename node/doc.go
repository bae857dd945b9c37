// Package node hosts the raft groups of one process: it drives etcd-raft, keeps the log, cuts and
// installs snapshots, and runs the state machines.
//
// # The way of a write
//
// [Group.Go] admits a command and puts it into the group's inbox. The event loop that owns the
// group packs everything that waits into one raft entry and collects raft's Ready. Its parts go to
// three stages that never make the loop wait: messages to the transport at once, the append into
// the Ready channel, committed entries to the apply queue. The log writer takes everything in the
// Ready channel, of all groups, and makes it durable with one write and one sync; only then do the
// acknowledgements leave. The apply stage runs the state machine and completes the command.
//
// # Many groups
//
// Every node starts group 1 with [Node.StartGroup]. Further groups come with [Node.CreateGroup] and
// go with [Node.RemoveGroup], on any node and while the cluster runs: the log of group 1 says which
// exist, and each node runs them with state machines of [Options.Machines]. They share the log, the
// connections and a few event loops, and one that is idle costs neither processor time nor
// messages.
//
// # Duties of the caller
//
//  1. Give each node a directory of its own, on a disk that keeps what it has synced.
//  2. Give each of the first members the same list of ids at its first start, and any later node
//     [Options.Join]. Replace a node whose directory was lost by one with an id that was never used
//     ([Group.Change]): its promises went with it, and the others refuse it.
//  3. Keep the state machine deterministic; see package statemachine.
//  4. Call [Call.Wait] once for each call, and ask [AdviceOf] before repeating a write: an Unknown
//     outcome may mean that the command was applied.
//  5. When [Node.Done] is closed the node cannot go on: stop the process. A start is safe.
//
// # What is guaranteed
//
// An acknowledged command is on the disks of a majority and is applied exactly once on every node,
// in the same order. A Linearizable read reflects every command acknowledged before it began,
// anywhere. A node that was killed at any moment comes back by itself from its own log. If a sync
// of the disk fails, the node stops for good and acknowledges nothing more.
//
// A read under a [Lease] reflects the same while the clocks of the members run at the same speed,
// within a tenth, and are not set back or stopped; one that is [Stale] by a given age reflects what
// was acknowledged so long ago.
//
// Not guaranteed: that a command whose outcome is Unknown was not applied; that a read of the
// present state, Stale(0), is recent.
package node
