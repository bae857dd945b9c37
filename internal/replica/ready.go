package replica

import (
	"errors"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// Ready is what a replica wants done. Each field goes to one stage, and each stage works its part
// off in order; different stages need not wait for each other, except as the fields say.
type Ready struct {
	// Messages go to peers at once: nothing in them depends on what this Ready appends.
	Messages []*pb.Message
	// Append is to be persisted; nil when there is nothing.
	Append *Append
	// Apply is to be applied in order; nil when there is nothing.
	Apply *Apply
	// Reads may run when the state machine has applied their index.
	Reads []ReadRound
	// Forward are commands that the leader must be asked to propose.
	Forward []Proposal
	// Lost are commands that ended without being applied here.
	Lost []Lost
	// Changes are the changes of the membership that ended without being applied here.
	Changes []ChangeEnd
	// Transferred says how a transfer of the leadership ended; nil when none did.
	Transferred *TransferEnd
	// Changed says that leader, role or term are not what they were: see Status.
	Changed bool
	// Unfenced says that the fence of Config.Fence is lifted.
	Unfenced bool
}

// Append is what the log must persist, in one atomic step. When Sync is set everything must be
// durable before any of Responses leaves; they go out in order.
type Append struct {
	Entries  []*pb.Entry
	State    *pb.HardState // nil = unchanged
	Snapshot *pb.Snapshot  // nil = none; else it replaces the log, and Entries follow it
	// Sync is false when only the commit index moved: it is learned again after a crash. A change
	// of the membership that is committed is worth a sync.
	Sync      bool
	Responses []*pb.Message // to the replica itself (Ack) and to peers
}

// Apply is committed entries.
type Apply struct {
	Entries []*pb.Entry
	// Batches has the local commands of the entries at the same position; nil when there are none
	// at all, a nil element when an entry has none.
	Batches []*Batch
	// Members is the membership behind each of the entries that changed it.
	Members []Membership
	Done    []*pb.Message // given back through Ack when the entries are applied
}

// Lost is commands that ended without being applied, and why.
type Lost struct {
	Proposals []Proposal
	Err       error
	// Unknown is set when they may have been applied all the same.
	Unknown bool
}

// Ready packs what is queued and hands out what there is to do. wall is the wall clock in ns, put into
// new entries; mono a clock in ns that never goes back, which ages rounds of reads. Both are read
// after the last call of Read. Nothing is called between HasReady and Ready.
func (r *Replica) Ready(wall, mono int64) Ready {
	out := &r.out
	r.proposeChange()
	r.propose(wall, out)
	r.sortReads(mono, out)
	if r.roundMoves() {
		r.rn.ReadIndex(readID(r.reads.start(r.reader(), r.term, mono)))
	}
	if r.rn.HasReady() {
		r.collect(out)
	}
	r.endTransfer()
	done := r.out
	r.out = Ready{}
	return done
}

// collect takes raft's Ready apart.
func (r *Replica) collect(out *Ready) {
	rd := r.rn.Ready()
	r.place(rd.Entries)
	r.observe(rd, out)
	var late []*pb.Message
	toPeers := rd.Messages[:0] // raft has given the slice up
	for _, m := range rd.Messages {
		switch m.GetTo() {
		case raft.LocalAppendThread:
			out.Append = r.append(m, rd, out)
		case raft.LocalApplyThread:
			r.apply(m, out)
		default:
			// What raft passes on for another node (a ReadIndex that went to the wrong one) would be
			// refused: its sender asks again.
			if m.GetType() == pb.MsgTimeoutNow {
				r.forced = m.GetTerm()
			}
			if m.GetFrom() != r.config.ID || !r.commits.pass(m) {
				continue
			}
			if r.mustBeDurable(m) {
				late = append(late, m)
			} else {
				toPeers = append(toPeers, m)
			}
		}
	}
	sendDurably(late, out)
	clear(rd.Messages[len(toPeers):])
	if out.Messages == nil {
		out.Messages = toPeers
	} else {
		out.Messages = append(out.Messages, toPeers...)
	}
	if out.Apply != nil && len(out.Apply.Members) > 0 {
		r.keepCommit(out)
	}
	for _, state := range rd.ReadStates {
		if round, ok := r.reads.confirm(state); ok && len(round.Reads) > 0 {
			out.Reads = append(out.Reads, round)
		}
	}
}

// sendDurably has messages leave when the log is durable.
//
// Among them are a candidate's requests for votes, behind its own term and vote. Raft sends them at
// once, and the others can elect it before. It would then send entries of a term that it forgets with
// a power cut, and those who gave it their votes would elect it again: one index and term would stand
// for two entries. See leaving.go for the others.
func sendDurably(late []*pb.Message, out *Ready) {
	if len(late) == 0 {
		return
	}
	if out.Append == nil {
		out.Append = &Append{} // behind the one that has what they wait for
	}
	out.Append.Sync = true
	out.Append.Responses = append(out.Append.Responses, late...)
}

// keepCommit has the commit index persisted with a change of the membership. After a crash a replica
// goes by the last change it knows to be committed, and those who were removed since may be gone
// for good: of two members of which one was removed, the other one could never lead again.
func (r *Replica) keepCommit(out *Ready) {
	r.members.kept = r.last
	if out.Append == nil {
		out.Append = &Append{}
	}
	if out.Append.State == nil {
		out.Append.State = &pb.HardState{Term: new(r.term), Commit: new(r.commit),
			Vote: new(r.rn.BasicStatus().GetVote())}
	}
	out.Append.Sync = true
}

// queueMoves reports whether Ready would do something with the queued commands.
func (r *Replica) queueMoves() bool {
	if len(r.queue) == 0 || r.stalled || r.held {
		return false
	}
	status := r.rn.BasicStatus()
	if status.RaftState == raft.StateLeader {
		// A change was proposed in this very Ready when something is fresh.
		return r.ahead < r.config.AppendsAhead && status.LeadTransferee == raft.None &&
			len(r.fresh) == 0 && !r.changing()
	}
	return status.Lead != raft.None
}

// propose moves the queue: into entries on the leader, to the leader elsewhere. Without a leader
// the commands stay, to be withdrawn by their waiters or taken by the next leader.
func (r *Replica) propose(now int64, out *Ready) {
	if !r.queueMoves() {
		return
	}
	if r.rn.BasicStatus().RaftState != raft.StateLeader {
		r.forward(out)
		return
	}
	entries, packed := r.pack(now, out)
	if len(entries) == 0 {
		return
	}
	if err := r.stepCommands(entries, packed); err != nil {
		r.putBack(packed, err, out)
	}
}

// stepCommands proposes entries. The batches count as fresh before raft sees them, so that Pending
// finds them when it panics.
func (r *Replica) stepCommands(entries []*pb.Entry, packed []*Batch) error {
	before := len(r.fresh)
	r.fresh = append(r.fresh, packed...)
	err := r.rn.Step(r.proposal(entries))
	if err != nil {
		r.fresh = r.fresh[:before]
	}
	return err
}

func (r *Replica) proposal(entries []*pb.Entry) *pb.Message {
	return &pb.Message{Type: pb.MsgProp.Enum(), From: new(r.config.ID), To: new(r.config.ID),
		Entries: entries}
}

// maxEntriesAtOnce bounds the entries of one proposal, and so how long a turn can take.
const maxEntriesAtOnce = 16

// pack builds entries of at most EntryBytes from the queue, a bounded number at a time.
func (r *Replica) pack(now int64, out *Ready) (entries []*pb.Entry, packed []*Batch) {
	for len(r.queue) > 0 && len(entries) < maxEntriesAtOnce {
		if batch, data := r.packOne(now, out); batch != nil {
			entries = append(entries, &pb.Entry{Data: data})
			packed = append(packed, batch)
		}
	}
	if len(r.queue) == 0 {
		r.queue = nil // the batches own the slices they were cut from
	}
	return entries, packed
}

// packOne packs as many commands of the queue as fit one entry, at least one, and none that was
// withdrawn. The batch is nil when nothing is left of them.
func (r *Replica) packOne(now int64, out *Ready) (*Batch, []byte) {
	var p packer
	var withdrawn []Proposal
	queue, limit := r.queue, r.config.EntryBytes
	taken, kept, size := 0, 0, 0
	for ; taken < len(queue); taken++ {
		command := queue[taken].Command()
		need := command.Size()
		if kept > 0 && size+need > limit {
			break
		}
		if !queue[taken].Take() {
			withdrawn = append(withdrawn, queue[taken])
			continue
		}
		if kept == 0 { // commands that wait together are mostly of one size
			p.begin(max(need, min(limit, need*(len(queue)-taken))), now)
		}
		p.add(command)
		size += need
		if kept < taken { // a pointer that stays where it is costs the collector nothing
			queue[kept] = queue[taken]
		}
		kept++
	}
	r.queue = queue[taken:]
	if withdrawn != nil {
		out.Lost = append(out.Lost, Lost{Proposals: withdrawn, Err: ErrWithdrawn})
	}
	if kept == 0 {
		return nil, nil
	}
	clear(queue[kept:taken])
	return &Batch{Proposals: queue[:kept:kept]}, p.finish(kept)
}

// putBack ends a proposal that raft dropped as a whole. Over the limit on uncommitted bytes its
// commands wait at the head of the queue; for any other reason they are lost for sure.
func (r *Replica) putBack(packed []*Batch, err error, out *Ready) {
	var taken []Proposal
	for _, b := range packed {
		taken = append(taken, b.Proposals...)
	}
	if !errors.Is(err, raft.ErrProposalDropped) {
		out.Lost = append(out.Lost, Lost{Proposals: taken, Err: err})
		return
	}
	for _, p := range taken {
		p.Release()
	}
	r.queue = append(taken, r.queue...)
	r.stalled = true
}

// forward hands the queue out for the leader; commands that were forwarded here already fail.
func (r *Replica) forward(out *Ready) {
	var local []Proposal
	for _, p := range r.queue {
		if p.Local() {
			local = append(local, p)
		} else {
			out.Forward = append(out.Forward, p)
		}
	}
	if local != nil {
		out.Lost = append(out.Lost, Lost{Proposals: local, Err: ErrNotLeader})
	}
	r.queue = nil
}

// place binds the batches that were just stepped to the positions raft gave their entries. No
// event came between the step and this Ready, so the entries at the end are exactly theirs.
func (r *Replica) place(entries []*pb.Entry) {
	if len(entries) > 0 {
		r.last = entries[len(entries)-1].GetIndex()
	}
	if len(r.fresh) == 0 {
		return
	}
	own := entries[len(entries)-len(r.fresh):]
	for i, b := range r.fresh {
		b.Index, b.Term = own[i].GetIndex(), own[i].GetTerm()
		r.placed.add(b)
	}
	r.fresh = nil
}

// observe notes what raft says about leader, role, term and commit index.
func (r *Replica) observe(rd raft.Ready, out *Ready) {
	before := [3]uint64{r.lead, uint64(r.role), r.term}
	if rd.SoftState != nil {
		r.lead, r.role = rd.SoftState.Lead, rd.SoftState.RaftState
		r.reads.observe(r.lead)
	}
	if rd.HardState != nil {
		r.term, r.commit = rd.GetTerm(), rd.GetCommit()
	}
	out.Changed = before != [3]uint64{r.lead, uint64(r.role), r.term}
}

func (r *Replica) append(m *pb.Message, rd raft.Ready, out *Ready) *Append {
	a := &Append{
		Entries:   m.GetEntries(),
		State:     rd.HardState,
		Responses: m.GetResponses(),
		Sync:      rd.MustSync,
	}
	if !raft.IsEmptySnap(m.GetSnapshot()) {
		a.Snapshot, a.Sync = m.GetSnapshot(), true
		index := a.Snapshot.GetMetadata().GetIndex()
		r.last = max(index, r.lastOf(m.GetEntries()))
		r.lose(r.placed.upTo(index), true,
			errors.New("replica: a snapshot took the place of the log"))
		r.members.state = a.Snapshot.GetMetadata().GetConfState()
		r.members.version = versionUnknown
		r.reads.revoke()
	}
	r.members.noteChanges(a.Entries)
	r.acks.appends(a.Entries)
	if len(a.Entries) > 0 {
		r.ahead++
	}
	return a
}

func (r *Replica) lastOf(entries []*pb.Entry) uint64 {
	if len(entries) == 0 {
		return 0
	}
	return entries[len(entries)-1].GetIndex()
}

// apply hands out committed entries. Changes of membership take effect here, on the owner of the
// RawNode and before any of the entries is acknowledged as applied; the state machine's stage gets
// the resulting membership along, so that a snapshot names the one of its own index.
func (r *Replica) apply(m *pb.Message, out *Ready) {
	a := &Apply{Entries: m.GetEntries(), Done: m.GetResponses()}
	out.Apply = a
	r.acks.applies(a.Entries)
	for i, e := range a.Entries {
		r.applyTerm = e.GetTerm()
		r.liftFence(e.GetTerm()) // raft hands out what is durable here
		batch, lost := r.placed.resolve(e.GetIndex(), e.GetTerm())
		r.lose(lost, false, ErrOverwritten)
		if e.GetType() != pb.EntryNormal {
			r.handOutChange(e, batch, a)
			continue
		}
		if batch != nil {
			if a.Batches == nil {
				a.Batches = make([]*Batch, len(a.Entries))
			}
			a.Batches[i] = batch
		}
	}
}

// handOutChange applies a change of the membership; batch is this replica's own request for it, if it
// is one.
func (r *Replica) handOutChange(e *pb.Entry, batch *Batch, a *Apply) {
	var own Change
	if batch != nil {
		own = batch.change
	}
	state, err := r.applyChange(e)
	if err == nil {
		a.Members = append(a.Members, Membership{Index: e.GetIndex(), ConfState: state, Change: own})
	} else if own != nil {
		r.endChange(own, err)
	}
}
