package node

import (
	"context"
	"fmt"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
)

// memberChange is one change of the configuration on its way through the core.
type memberChange struct {
	conf    *pb.ConfChangeV2
	version uint64
	done    chan error // has room for one; nil when the change is applied here
}

func (c *memberChange) ConfChange() *pb.ConfChangeV2 { return c.conf }
func (c *memberChange) Version() uint64              { return c.version }

// end is called once: by the worker when the change does not happen, by the apply stage when it
// has.
func (c *memberChange) end(err error, isUnknown bool) {
	switch {
	case isUnknown && err == nil:
		err = unknown("the replica stopped")
	case isUnknown:
		err = unknown(err.Error())
	case err != nil:
		err = fromCore(err)
	}
	select {
	case c.done <- err:
	default: // it has ended before
	}
}

// serveChange makes one change as the leader, and returns when it is applied here.
func (g *Group) serveChange(ctx context.Context, r controlRequest) error {
	if !g.leads() {
		return errNotLeader
	}
	conf := &pb.ConfChangeV2{}
	members := make([]apply.Member, 0, len(r.Members))
	for _, m := range r.Members {
		members = append(members, apply.Member(m))
	}
	for _, s := range r.Steps {
		single, err := s.single()
		if err != nil {
			return err
		}
		conf.Changes = append(conf.Changes, single)
		if s.Becomes == becomesVoter {
			if members, err = g.identify(members, s.ID); err != nil {
				return err
			}
		}
	}
	if len(members) > 0 {
		conf.Context = apply.AppendMembers(nil, members)
	}
	c := &memberChange{conf: conf, version: r.Version, done: make(chan error, 1)}
	asked := g.post(func(in *contents) {
		in.events = append(in.events, func(core *replica.Replica) { core.ChangeMembers(c) })
	})
	if !asked {
		return ErrClosed
	}
	return g.await(ctx, c.done)
}

func (s memberStep) single() (*pb.ConfChangeSingle, error) {
	types := map[string]*pb.ConfChangeType{
		becomesVoter:   pb.ConfChangeAddNode.Enum(),
		becomesLearner: pb.ConfChangeAddLearnerNode.Enum(),
		becomesNothing: pb.ConfChangeRemoveNode.Enum(),
		becomesKnown:   pb.ConfChangeUpdateNode.Enum(),
	}
	if types[s.Becomes] == nil {
		return nil, fmt.Errorf("%w: node %d cannot become %q", ErrInvalidChange, s.ID, s.Becomes)
	}
	return &pb.ConfChangeSingle{Type: types[s.Becomes], NodeId: new(s.ID)}, nil
}

// identify adds the incarnation of a member to what a change says. A voter gets its vote together
// with its incarnation: from its first vote on, another directory under its id is refused.
func (g *Group) identify(members []apply.Member, id uint64) ([]apply.Member, error) {
	i := slices.IndexFunc(members, func(m apply.Member) bool { return m.ID == id })
	if i < 0 {
		m, _ := g.apply.directory.Load().Member(id)
		m.ID = id
		i, members = len(members), append(members, m)
	}
	incarnation := g.node.incarnationOf(id)
	if incarnation == 0 {
		return nil, fmt.Errorf("%w: node %d is not connected", ErrChangePending, id)
	}
	members[i].Incarnation = incarnation
	return members, nil
}

// await waits for what the worker or the apply stage ends.
func (g *Group) await(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return unknown("it did not end in time")
	case <-g.node.stopping:
		return unknown("the leader is closing")
	case <-g.node.done:
		return unknown("the leader has failed")
	}
}

// look tells what this node knows of the members, and of how far they are if it leads. A leader says
// that it leads when it has applied an entry of its term: before, it may know less of the members than
// the one before it has told.
func (g *Group) look(ctx context.Context) (controlAnswer, error) {
	type view struct {
		progress []replica.Progress
		status   replica.Status
	}
	seen := make(chan view, 1)
	asked := g.post(func(in *contents) {
		in.events = append(in.events, func(core *replica.Replica) {
			seen <- view{core.Progress(), core.Status()}
		})
	})
	if !asked {
		return controlAnswer{}, ErrClosed
	}
	select {
	case v := <-seen:
		now := g.Membership()
		a := controlAnswer{Leader: v.status.Leader, Now: &now, Leads: v.status.Current,
			Since: min(g.members.since.Load(), now.Version)}
		connected := g.node.connected()
		for _, p := range v.progress {
			a.Members = append(a.Members, g.position(p, v.status.LastIndex, connected))
		}
		return a, nil
	case <-ctx.Done():
		return controlAnswer{}, unknown("the group did not answer in time")
	case <-g.node.stopping:
		return controlAnswer{}, ErrClosed
	}
}

// connected returns the incarnations of the peers that are connected now, and of this node.
func (n *Node) connected() map[uint64]uint64 {
	list := map[uint64]uint64{n.options.ID: n.wal.Identity().Incarnation}
	for _, s := range n.transport.Stats() {
		if s.Connected {
			list[s.ID] = s.Incarnation
		}
	}
	return list
}

// incarnationOf returns the incarnation of a node that is connected now, else 0.
func (n *Node) incarnationOf(id uint64) uint64 { return n.connected()[id] }

// exactEntriesMax is up to how many entries their bytes are counted; of more they are estimated.
const exactEntriesMax = closeEntries

func (g *Group) position(p replica.Progress, last uint64,
	connected map[uint64]uint64) memberPosition {
	at := memberPosition{ID: p.ID, Match: p.Match, Snapshot: p.Snapshot,
		Connected: connected[p.ID] != 0, Replicating: p.State == tracker.StateReplicate}
	at.Entries = last - min(p.Match, last)
	at.Bytes = g.bytesBehind(p.Match, last)
	return at
}

// bytesBehind returns how many bytes the entries behind match have. Those that the log has no more
// are not counted: a snapshot takes their place.
func (g *Group) bytesBehind(match, last uint64) int64 {
	from, end := max(match+1, g.wal.FirstIndex()), min(last, g.wal.LastIndex())
	if from > end {
		return 0
	}
	count := end - from + 1
	sample := min(count, exactEntriesMax) // the newest, which are in memory
	bytes := int64(0)
	for next := end + 1 - sample; next <= end; {
		entries, err := g.wal.Entries(next, end+1, 4<<20)
		if err != nil || len(entries) == 0 {
			return bytes // truncated meanwhile
		}
		for _, e := range entries {
			bytes += int64(len(e.GetData()))
		}
		next += uint64(len(entries))
	}
	return int64(float64(bytes) * float64(count) / float64(sample))
}
