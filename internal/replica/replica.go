package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// Errors that the effects carry for commands that were surely not applied.
var (
	// ErrNotLeader: a command that must not be forwarded reached a replica that is not the leader.
	ErrNotLeader = errors.New("replica: not the leader")
	// ErrOverwritten: another leader's entry was committed at the command's place in the log.
	ErrOverwritten = errors.New("replica: overwritten by another leader")
	// ErrWithdrawn: its waiter left before the command was proposed.
	ErrWithdrawn = errors.New("replica: withdrawn")
)

// Proposal is a command waiting for its place in the log.
type Proposal interface {
	// Command is what to replicate; its bytes are copied.
	Command() Command
	// Take claims the proposal; false when its waiter has withdrawn it, and it is not proposed.
	Take() bool
	// Release undoes Take for a proposal that was not proposed and stays in the queue.
	Release()
	// Withdrawn reports whether the waiter has left.
	Withdrawn() bool
	// Local is true when the command must be proposed by this replica or fail with ErrNotLeader.
	Local() bool
}

// Config says how a replica begins.
type Config struct {
	Group, ID      uint64
	ElectionTicks  int
	HeartbeatTicks int
	Storage        raft.Storage
	Applied        uint64 // index up to which the state machine holds the log
	Version        uint64 // index of the last change of the membership up to Applied
	EntryBytes     int    // commands are packed into entries of about this size
	InflightBytes  uint64 // of appends to one peer, and of uncommitted entries
	AppendsAhead   int    // appends of new entries handed out and not yet durable, at most
	// Lease is how long the leader may answer reads after the beginning of a round: at most
	// ElectionTicks-2 times the tick, less what the clocks of the members may differ in speed. 0 =
	// every read takes a round.
	Lease time.Duration
	// Begins is set in the life of a node in which the group has begun there: only then has no
	// earlier life heard of a leader, and the replica may vote at once.
	Begins bool
	// ReadSeed is where the ids of read rounds begin. It must differ between the lives of a
	// node: an answer to a round of the life before must not confirm a read of this one.
	ReadSeed uint64
	// Fence is not 0 for a replica that has lost part of the log it had acknowledged: the last
	// term it knows from before the loss. See fence.go.
	Fence  uint64
	Logger raft.Logger
}

// Replica is one replica of a group. It is not safe for concurrent use: one owner calls it.
type Replica struct {
	config Config
	rn     *raft.RawNode

	lead uint64         // as of the last Ready
	role raft.StateType // as of the last Ready
	term uint64         // as of the last Ready
	// commit is the commit index as of the last Ready.
	commit uint64
	// last is the index of the last entry handed to the log.
	last uint64
	// applyTerm is the term of the last entry handed out to be applied.
	applyTerm uint64
	// ahead counts the appends of new entries that were handed out and not acknowledged.
	ahead int

	queue []Proposal // not proposed yet, in order
	// stalled is set while raft takes no more uncommitted bytes: the queue rests until an append
	// or an apply is acknowledged.
	stalled bool
	// held is set while the leader cannot be reached: the queue rests until the next tick.
	held   bool
	fresh  []*Batch // stepped since the last Ready: their positions show in the next one
	placed batches  // in the log, not committed yet
	// cutTicks counts the ticks for which batches have stood behind the end of the log.
	cutTicks int

	members  members
	transfer transfer
	reads    reads
	commits  commits
	acks     acks
	// silence is for how many ticks the replica votes for nobody but a forced candidate.
	silence int
	// forced is the last term in which this replica, as the leader, has forced an election.
	forced uint64
	fence  uint64 // as Config.Fence, 0 when it is lifted
	fault  error
	// out is the Ready under construction. It is a field so that Pending finds what is in it when
	// raft panics half way.
	out Ready
}

// Batch is one entry that this replica proposed: commands, or a change of the membership.
type Batch struct {
	Index, Term uint64
	Proposals   []Proposal
	change      Change
}

// New makes a replica on the state in config.Storage.
func New(config Config) (*Replica, error) {
	rn, err := raft.NewRawNode(&raft.Config{
		ID:                          config.ID,
		ElectionTick:                config.ElectionTicks,
		HeartbeatTick:               config.HeartbeatTicks,
		Storage:                     config.Storage,
		Applied:                     config.Applied,
		AsyncStorageWrites:          true,
		MaxSizePerMsg:               uint64(config.EntryBytes),
		MaxCommittedSizePerReady:    maxApplyBytes,
		MaxUncommittedEntriesSize:   config.InflightBytes,
		MaxInflightMsgs:             256,
		MaxInflightBytes:            max(config.InflightBytes, uint64(config.EntryBytes)),
		CheckQuorum:                 true,
		PreVote:                     true,
		ReadOnlyOption:              raft.ReadOnlySafe,
		Logger:                      config.Logger,
		DisableProposalForwarding:   true,
		DisableConfChangeValidation: false,
		StepDownOnRemoval:           true,
	})
	if err != nil {
		return nil, fmt.Errorf("replica: group %d: %w", config.Group, err)
	}
	last, err := config.Storage.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("replica: group %d: %w", config.Group, err)
	}
	_, state, err := config.Storage.InitialState()
	if err != nil {
		return nil, fmt.Errorf("replica: group %d: %w", config.Group, err)
	}
	silence := config.ElectionTicks
	if config.Begins {
		silence = 0
	}
	status := rn.BasicStatus()
	return &Replica{
		silence: silence,
		config:  config,
		rn:      rn,
		role:    status.RaftState,
		term:    status.GetTerm(),
		commit:  status.GetCommit(),
		last:    last,
		acks:    acks{stable: last, handed: config.Applied},
		members: members{state: state, version: config.Version, logged: last},
		reads:   reads{next: config.ReadSeed},
		fence:   config.Fence,
	}, nil
}

// Tick tells the replica that one tick of time has passed.
func (r *Replica) Tick() {
	r.tickMembers()
	if r.fence == 0 {
		r.rn.Tick()
	}
	r.silence = max(0, r.silence-1)
	r.stalled, r.held = false, false
	r.Flush()
	r.reads.tick(r.config.ElectionTicks)
	r.tickTransfer()
	r.giveUpCut()
}

// TickOutside is Tick for a replica that is told to be no member any more: it stands for no election,
// but the time for which it refuses its vote passes. A member that does not know yet that the other
// one has left may need that vote.
func (r *Replica) TickOutside() {
	if r.silence > 0 {
		r.silence--
	} else if r.rn.BasicStatus().Lead != raft.None {
		_ = r.rn.ForgetLeader() // raft counts by its own ticks for how long it remembers
	}
	r.stalled, r.held = false, false
	r.Flush()
	r.tickTransfer()
}

// Sweep takes the commands and reads out whose waiters have left. Without it a group that has no
// leader for long would collect them.
func (r *Replica) Sweep() (proposals []Proposal, reads []Read) {
	r.queue, proposals = sweep(r.queue)
	r.reads.waiting = append(r.reads.waiting, r.reads.arrived...)
	r.reads.arrived = nil
	r.reads.waiting, reads = sweep(r.reads.waiting)
	return proposals, reads
}

// sweep parts what waits from what was withdrawn; it asks each element once, for its answer may
// change at any moment.
func sweep[T interface{ Withdrawn() bool }](list []T) (waiting, left []T) {
	waiting = list[:0]
	for _, element := range list {
		if element.Withdrawn() {
			left = append(left, element)
		} else {
			waiting = append(waiting, element)
		}
	}
	clear(list[len(waiting):])
	return waiting, left
}

// Step takes a message of a peer that the transport has authenticated as from. A message that the
// gate refuses is dropped and the reason returned; the replica is unchanged.
func (r *Replica) Step(from uint64, m *pb.Message) error {
	if err := r.admit(from, m); err != nil {
		return err
	}
	r.hear(m)
	r.takeAnswer(m)
	if r.keepsSilent(m) || r.asksTooEarly(m) {
		return nil // raft does the same: in the first case when it knows of the leader, in the
		// second one when there are several voters
	}
	if err := r.rn.Step(m); err != nil && !errors.Is(err, raft.ErrProposalDropped) &&
		!errors.Is(err, raft.ErrStepPeerNotFound) {
		return fmt.Errorf("replica: group %d: step %v of node %d: %w", r.config.Group, m.GetType(),
			from, err)
	}
	return nil
}

// Ack takes back a response that came with an append or an apply, when what it responds to is done.
func (r *Replica) Ack(m *pb.Message) {
	// Responses come from the replica's own Ready: raft ignores the outdated ones by itself, and
	// a response to a peer that has left the group since is of no use to anybody.
	_ = r.rn.Step(m)
	r.acks.note(m, r.rn.BasicStatus().GetTerm(), r.last)
	r.stalled = false
	if done := m.GetEntries(); m.GetType() == pb.MsgStorageApplyResp && len(done) > 0 {
		e := done[len(done)-1]
		r.members.applied = position{e.GetIndex(), e.GetTerm()}
	}
	if m.GetType() == pb.MsgStorageAppendResp && !raft.IsEmptySnap(m.GetSnapshot()) {
		r.liftFence(m.GetSnapshot().GetMetadata().GetTerm())
	}
}

// Appended says that an append with new entries is durable. It makes room for the next one.
func (r *Replica) Appended() { r.ahead-- }

// Propose queues commands and takes the slice; the next Ready packs them, or hands them back to be
// forwarded.
func (r *Replica) Propose(proposals []Proposal) {
	if len(r.queue) == 0 {
		r.queue = proposals
		return
	}
	r.queue = append(r.queue, proposals...)
}

// Return takes forwarded commands back that were surely not sent. They keep their place at the head
// of the queue, so that commands of one origin stay in order, and rest until the next tick.
func (r *Replica) Return(unsent []Proposal) {
	r.queue = append(unsent, r.queue...)
	r.held = true
}

// Read queues reads. One round of ReadIndex serves all that wait for one.
func (r *Replica) Read(arrived []Read) { r.reads.arrived = append(r.reads.arrived, arrived...) }

// Unreachable says that messages to a peer were lost.
func (r *Replica) Unreachable(peer uint64) { r.rn.ReportUnreachable(peer) }

// SnapshotSent says how the transfer of a snapshot to a peer ended. Every MsgSnap among the
// effects must be answered by one call, or raft waits for ever (etcd issue 10225).
func (r *Replica) SnapshotSent(peer uint64, err error) {
	if err != nil {
		r.rn.ReportSnapshot(peer, raft.SnapshotFailure)
		return
	}
	r.rn.ReportSnapshot(peer, raft.SnapshotFinish)
}

// Campaign makes the replica stand for election at once. It is refused while the leader that was
// heard of last may hold a lease.
func (r *Replica) Campaign() error {
	if r.silence > 0 {
		return errSilent
	}
	return r.rn.Campaign()
}

// Saturated reports whether commands would only wait now, until an append is acknowledged.
func (r *Replica) Saturated() bool {
	return r.role == raft.StateLeader && r.ahead >= r.config.AppendsAhead
}

// Confirming reports whether reads that need a round of their own would only wait now, until the round
// under way has ended.
func (r *Replica) Confirming() bool { return r.reads.open }

// HasReady reports whether Ready has anything to hand out.
func (r *Replica) HasReady() bool {
	return r.rn.HasReady() || len(r.reads.arrived) > 0 || r.roundMoves() ||
		r.queueMoves() || r.changeMoves() || r.out.Unfenced || len(r.out.Lost) > 0 ||
		len(r.out.Changes) > 0 || r.out.Transferred != nil || len(r.out.Messages) > 0
}

// Status of a replica; cheap.
type Status struct {
	Role      raft.StateType
	Term      uint64
	Leader    uint64 // 0 = not known
	Commit    uint64
	LastIndex uint64 // handed to the log
	Queued    int    // commands not proposed yet
	Version   uint64 // index of the last change of the membership handed out to be applied
	Learner   bool   // has no vote
	// Current: it leads and has applied an entry of its own term, and so whatever was committed before.
	Current bool
	Fenced  bool  // neither votes nor campaigns: it has lost a part of its log
	Fault   error // why the replica cannot take part, nil when it can
}

// Status returns the state as of the last Ready.
func (r *Replica) Status() Status {
	return Status{Role: r.role, Term: r.term, Leader: r.lead, Commit: r.commit, LastIndex: r.last,
		Queued: len(r.queue), Version: r.members.version,
		Current: r.role == raft.StateLeader && r.members.applied.term == r.term,
		Learner: isLearner(r.members.state, r.config.ID), Fenced: r.fence != 0, Fault: r.fault}
}

// Behind reports whether this replica leads and a peer's log is not known to reach index.
func (r *Replica) Behind(peer, index uint64) bool {
	behind := false
	if r.role != raft.StateLeader {
		return false
	}
	r.rn.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		behind = behind || id == peer && p.Match < index
	})
	return behind
}

// reader is the leader that a round of ReadIndex can ask now. This replica itself can be asked when
// an entry of its own term is committed: before, it may not know how far the terms before it were
// (thesis section 6.4). raft minds that in every group but one of a single voter.
func (r *Replica) reader() uint64 {
	status := r.rn.BasicStatus()
	if status.Lead == r.config.ID && r.applyTerm != status.GetTerm() {
		return raft.None
	}
	return status.Lead
}

// roundMoves reports whether Ready would begin a round of ReadIndex.
func (r *Replica) roundMoves() bool { return r.reads.wanted() && r.reader() != raft.None }

// asksTooEarly reports whether a read of a peer comes before this replica can tell how far the log
// was committed; see reader. The peer asks again.
func (r *Replica) asksTooEarly(m *pb.Message) bool {
	state := r.members.state
	return m.GetType() == pb.MsgReadIndex && r.reader() == raft.None &&
		len(state.GetVoters()) == 1 && len(state.GetVotersOutgoing()) == 0
}

// readID makes the context of a read round.
func readID(id uint64) []byte { return binary.LittleEndian.AppendUint64(nil, id) }
