package replica_test

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// write writes a Ready down: what concerns callers always, how it comes about when asked.
func (s *script) write(id uint64, rd replica.Ready) {
	if rd.Changed {
		s.say("%d %s", id, role(s.cores[id].Status()))
	}
	if rd.Unfenced {
		s.say("%d is not fenced any more", id)
	}
	if s.verbose {
		if a := rd.Append; a != nil {
			s.say("%d append%s", id, describeAppend(a))
		}
	}
	if s.sends {
		for _, m := range rd.Messages {
			s.say("%d send to %d: %s", id, m.GetTo(), describe(m))
		}
	}
	if rd.Append != nil && rd.Append.Snapshot != nil {
		meta := rd.Append.Snapshot.GetMetadata()
		s.say("%d restores the snapshot at %d: %s", id, meta.GetIndex(),
			describeMembers(meta.GetConfState()))
	}
	s.writeApply(id, rd.Apply)
	for _, round := range rd.Reads {
		var names []string
		for _, r := range round.Reads {
			names = append(names, s.reading[r])
		}
		s.say("%d reads %s at %d", id, strings.Join(names, " "), round.Index)
	}
	if len(rd.Forward) > 0 {
		s.say("%d forwards %s to %d", id, commandNames(rd.Forward), s.cores[id].Status().Leader)
	}
	s.writeEnds(id, rd)
}

// writeApply writes down what is handed out to be applied; own commands and changes are marked.
func (s *script) writeApply(id uint64, a *replica.Apply) {
	if a == nil {
		return
	}
	members := a.Members
	for i, e := range a.Entries {
		if len(members) > 0 && members[0].Index == e.GetIndex() {
			own := ""
			if members[0].Change != nil {
				own = fmt.Sprintf(", asked for here as %q", s.asked[members[0].Change])
			}
			s.say("%d applies %d: members %s%s", id, e.GetIndex(),
				describeMembers(members[0].ConfState), own)
			members = members[1:]
			continue
		}
		if len(e.GetData()) == 0 || e.GetType() != pb.EntryNormal {
			if s.verbose {
				s.say("%d applies %d: nothing", id, e.GetIndex())
			}
			continue
		}
		own := ""
		if a.Batches != nil && a.Batches[i] != nil {
			own = ", asked for here"
		}
		s.say("%d applies %d: %s%s", id, e.GetIndex(), s.entryCommands(e), own)
	}
}

func (s *script) entryCommands(e *pb.Entry) string {
	entry, err := replica.Unpack(e.GetData())
	must(s.t, err)
	var names []string
	for range entry.Commands {
		c, err := entry.Next()
		must(s.t, err)
		names = append(names, string(c.Data))
	}
	return strings.Join(names, " ")
}

func (s *script) writeEnds(id uint64, rd replica.Ready) {
	for _, l := range rd.Lost {
		s.say("%d ends %s, %s: %v", id, commandNames(l.Proposals), fate(l.Unknown), l.Err)
	}
	for _, e := range rd.Changes {
		s.say("%d ends the change %q, %s: %v", id, s.asked[e.Change], fate(e.Unknown), e.Err)
	}
	if end := rd.Transferred; end != nil && end.Err == nil {
		s.say("%d has handed over to %d", id, end.To)
	} else if end != nil {
		s.say("%d has not handed over to %d: %v", id, end.To, end.Err)
	}
}

func fate(unknown bool) string {
	if unknown {
		return "perhaps applied"
	}
	return "not applied"
}

func role(s replica.Status) string {
	switch {
	case s.Role == raft.StateLeader:
		return fmt.Sprintf("leads in term %d", s.Term)
	case s.Role == raft.StateFollower && s.Leader != raft.None:
		return fmt.Sprintf("follows %d in term %d", s.Leader, s.Term)
	case s.Role == raft.StateFollower:
		return fmt.Sprintf("follows nobody in term %d", s.Term)
	case s.Role == raft.StatePreCandidate:
		return fmt.Sprintf("asks whether it could be elected after term %d", s.Term)
	}
	return fmt.Sprintf("stands for election in term %d", s.Term)
}

func (s *script) doStatus(d *datadriven.TestData) {
	_, core := s.node(d)
	st := core.Status()
	s.say("%s, commit %d, last %d, version %d, members %s", role(st), st.Commit, st.LastIndex,
		st.Version, describeMembers(core.Members()))
	if st.Learner {
		s.say("learner")
	}
	if st.Queued > 0 {
		s.say("%d commands wait", st.Queued)
	}
	if st.Fenced {
		s.say("fenced")
	}
	if st.Fault != nil {
		s.say("fault: %v", st.Fault)
	}
}

func (s *script) doProgress(d *datadriven.TestData) {
	_, core := s.node(d)
	for _, p := range core.Progress() {
		what := fmt.Sprintf("%d: match %d, next %d, %v", p.ID, p.Match, p.Next, p.State)
		if p.Learner {
			what += ", learner"
		}
		if !p.Active {
			what += ", silent"
		}
		if p.Snapshot != 0 {
			what += fmt.Sprintf(", snapshot %d", p.Snapshot)
		}
		s.say("%s", what)
	}
}

func describeMembers(c *pb.ConfState) string {
	text := fmt.Sprint(c.GetVoters())
	for _, part := range []struct {
		name string
		ids  []uint64
	}{{"outgoing", c.GetVotersOutgoing()}, {"learners", c.GetLearners()},
		{"learners next", c.GetLearnersNext()}} {
		if len(part.ids) > 0 {
			text += fmt.Sprintf(" %s %v", part.name, part.ids)
		}
	}
	return text
}

func describeAppend(a *replica.Append) string {
	text := describeEntries(a.Entries)
	if a.State != nil {
		text += fmt.Sprintf(" term %d vote %d commit %d", a.State.GetTerm(), a.State.GetVote(),
			a.State.GetCommit())
	}
	if a.Sync {
		text += " sync"
	}
	for _, m := range a.Responses {
		switch m.GetType() {
		case pb.MsgAppResp, pb.MsgVoteResp, pb.MsgPreVoteResp:
			text += fmt.Sprintf("; then to %d: %s", m.GetTo(), describe(m))
		}
	}
	return text
}

func describeEntries(entries []*pb.Entry) string {
	text := ""
	for _, e := range entries {
		text += fmt.Sprintf(" %d/%d", e.GetIndex(), e.GetTerm())
		if e.GetType() != pb.EntryNormal {
			text += "(members)"
		}
	}
	return text
}

// describe is a message in one line; positions are index/term.
func describe(m *pb.Message) string {
	text := fmt.Sprintf("%v term %d", m.GetType(), m.GetTerm())
	switch m.GetType() {
	case pb.MsgVote, pb.MsgPreVote:
		text += fmt.Sprintf(" last %d/%d", m.GetIndex(), m.GetLogTerm())
		if len(m.GetContext()) > 0 {
			text += " forced"
		}
	case pb.MsgApp:
		text += fmt.Sprintf(" behind %d/%d:%s commit %d", m.GetIndex(), m.GetLogTerm(),
			describeEntries(m.GetEntries()), m.GetCommit())
	case pb.MsgAppResp:
		text += fmt.Sprintf(" up to %d", m.GetIndex())
	case pb.MsgHeartbeat:
		text += fmt.Sprintf(" commit %d", m.GetCommit())
	case pb.MsgSnap:
		meta := m.GetSnapshot().GetMetadata()
		text += fmt.Sprintf(" at %d/%d %s", meta.GetIndex(), meta.GetTerm(),
			describeMembers(meta.GetConfState()))
	case pb.MsgReadIndexResp:
		text += fmt.Sprintf(" at %d", m.GetIndex())
	}
	if m.GetReject() {
		text += " rejected"
	}
	if c := m.GetContext(); len(c) == 8 && binary.LittleEndian.Uint64(c)&pollMark != 0 {
		text += fmt.Sprintf(" poll %d", binary.LittleEndian.Uint64(c)&^pollMark)
	}
	return text
}

// pollMark is in the ids of polls.
const pollMark = 1 << 63

// doStep hands a message to a node as if a peer had sent it:
//
//	step 1 MsgApp from=2 term=5 index=1 log-term=1 entries=(2/5,3/5) commit=1
//
// poll= is the poll in the context. With sender= and receiver= it claims to be from and for other nodes than those that it goes between.
func (s *script) doStep(d *datadriven.TestData) {
	id, core := s.node(d)
	from := number(d, s.t, "from", 0)
	m := &pb.Message{Type: pb.MessageType(pb.MessageType_value[words(d)[0]]).Enum(),
		From: new(number(d, s.t, "sender", from)), To: new(number(d, s.t, "receiver", id)),
		Term: new(number(d, s.t, "term", 0)), Index: new(number(d, s.t, "index", 0)),
		LogTerm: new(number(d, s.t, "log-term", 0)), Commit: new(number(d, s.t, "commit", 0)),
		Reject: new(d.HasArg("rejected"))}
	if a, ok := d.Arg("entries"); ok {
		for _, v := range a.Vals {
			var index, term uint64
			if _, err := fmt.Sscanf(v, "%d/%d", &index, &term); err != nil {
				d.Fatalf(s.t, "entry %q: %v", v, err)
			}
			m.Entries = append(m.Entries, &pb.Entry{Index: new(index), Term: new(term)})
		}
	}
	if a, ok := d.Arg("context"); ok {
		m.Context = []byte(a.Vals[0])
	}
	if poll := number(d, s.t, "poll", 0); poll != 0 {
		m.Context = binary.LittleEndian.AppendUint64(nil, pollMark|poll)
	}
	if a, ok := d.Arg("snapshot"); ok {
		m.Snapshot = &pb.Snapshot{Metadata: &pb.SnapshotMetadata{ConfState: &pb.ConfState{}}}
		var index, term uint64
		if _, err := fmt.Sscanf(a.Vals[0], "%d/%d", &index, &term); err != nil {
			d.Fatalf(s.t, "snapshot %q: %v", a.Vals[0], err)
		}
		meta := m.GetSnapshot().GetMetadata()
		meta.Index, meta.Term = new(index), new(term)
		for _, v := range a.Vals[1:] {
			var voter uint64
			if _, err := fmt.Sscan(v, &voter); err != nil {
				d.Fatalf(s.t, "voter %q: %v", v, err)
			}
			meta.ConfState.Voters = append(meta.ConfState.Voters, voter)
		}
	}
	s.sayError(core.Step(from, m))
}
