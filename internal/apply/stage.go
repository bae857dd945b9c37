package apply

import (
	"encoding/binary"
	"fmt"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/statemachine"
)

// Position is where in the log a state stands.
type Position struct {
	Index, Term uint64
	Clock       int64         // replicated time, ns since 1970
	Members     *pb.ConfState // who votes and who learns; not to be changed
}

// Stage is the state of one replica as of one index. One goroutine at a time calls it. After an
// error of Entry or Restore its state means nothing, until a Restore succeeds.
type Stage struct {
	machine   statemachine.Machine
	at        Position // Members is in the directory
	directory *Directory
	sessions  *sessions
	catalog   catalog
}

// New makes a stage around a machine that holds nothing. Begin or Restore come next.
func New(machine statemachine.Machine) *Stage {
	return &Stage{machine: machine, directory: &Directory{}, sessions: newSessions()}
}

// Begin sets the beginning of a group of which nothing is applied: the members are those of the
// imaginary snapshot that the log begins with.
func (s *Stage) Begin(at Position, members []Member) {
	s.at, s.sessions, s.catalog = at, newSessions(), catalog{}
	s.directory = (&Directory{}).with(at.Index, at.Members, members)
}

// Position returns where the stage stands.
func (s *Stage) Position() Position {
	at := s.at
	at.Members = s.directory.State
	return at
}

// Index returns the index of the last entry applied.
func (s *Stage) Index() uint64 { return s.at.Index }

// Directory returns the members as of the last entry applied; it stays as it is.
func (s *Stage) Directory() *Directory { return s.directory }

// Entry applies the entry that follows. members is the configuration behind an entry that changes
// it, nil for any other and for a change that was refused. done, unless it is nil, is called for
// each command of the entry in its order, with the answer, which belongs to it, or with one of the
// refusals of this package; i counts from 0. An error means that this replica cannot go on.
func (s *Stage) Entry(e *pb.Entry, members *pb.ConfState,
	done func(i int, answer []byte, refusal error)) error {
	index := e.GetIndex()
	if index != s.at.Index+1 {
		return fmt.Errorf("apply: entry %d does not follow entry %d", index, s.at.Index)
	}
	s.at.Index, s.at.Term = index, e.GetTerm()
	var err error
	switch {
	case e.GetType() != pb.EntryNormal:
		err = s.change(e, members)
	case len(e.GetData()) > 0:
		err = s.commands(e.GetData(), done)
	}
	if err != nil {
		return fmt.Errorf("apply: entry %d: %w", index, err)
	}
	return nil
}

// change applies a change of the configuration. One that has no configuration behind it was
// refused, by every replica alike: it is a version, and changes nobody.
func (s *Stage) change(e *pb.Entry, members *pb.ConfState) error {
	if members == nil {
		s.directory = s.directory.with(e.GetIndex(), s.directory.State, nil)
		return nil
	}
	changed, err := changedMembers(e)
	if err != nil {
		return err
	}
	s.directory = s.directory.with(e.GetIndex(), members, changed)
	return nil
}

func (s *Stage) commands(data []byte, done func(int, []byte, error)) error {
	entry, err := replica.Unpack(data)
	if err != nil {
		return err
	}
	s.at.Clock = max(s.at.Clock, entry.Clock)
	s.sessions.expire(s.at.Clock)
	meta := statemachine.Meta{Index: s.at.Index, Time: time.Unix(0, s.at.Clock).UTC()}
	for i := range entry.Commands {
		c, err := entry.Next()
		if err != nil {
			return err
		}
		var answer []byte
		var refusal error
		switch {
		case c.Session != 0:
			answer, refusal, err = s.once(meta, &c, done != nil)
		case c.System:
			answer, err = s.system(c.Data)
		default:
			answer, err = s.machine.Apply(meta, c.Data)
		}
		if err != nil {
			return fmt.Errorf("state machine: %w", err)
		}
		if done != nil {
			done(i, answer, refusal)
		}
	}
	return nil
}

// once applies a command of a session unless it was applied before. The answer is the caller's own
// when it is asked for.
func (s *Stage) once(meta statemachine.Meta, c *replica.Command, asked bool) (answer []byte,
	refusal, err error) {
	session, known, refusal := s.sessions.admit(c, s.at.Clock)
	if session == nil {
		if asked && refusal == nil {
			answer = append([]byte{}, known...)
		}
		return answer, refusal, nil
	}
	if answer, err = s.machine.Apply(meta, c.Data); err != nil {
		return nil, nil, err
	}
	s.sessions.keep(session, c.Sequence, answer)
	return answer, nil, nil
}

// The first byte of a command of the system tells whose it is. Numbers are part of the log's
// format.
const (
	systemOpenSession  = 1 // nothing follows; answered with the id (uvarint)
	systemCloseSession = 2 // the id follows (uvarint)
	systemCatalog      = 3 // a command of the catalog follows
)

func (s *Stage) system(data []byte) (answer []byte, err error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: an empty command of the system", ErrMalformed)
	}
	d := decoder{rest: data[1:]}
	switch data[0] {
	case systemOpenSession:
		return binary.AppendUvarint(nil, s.sessions.open(s.at.Clock)), d.end("open session")
	case systemCloseSession:
		s.sessions.close(d.uvarint())
		return nil, d.end("close session")
	case systemCatalog:
		return s.catalog.apply(data[1:], s.at.Index, s.directory.State)
	}
	return nil, fmt.Errorf("%w: command %d of the system: another version has written it",
		ErrMalformed, data[0])
}

// OpenSession returns the command of the system that opens a session.
func OpenSession() []byte { return []byte{systemOpenSession} }

// ParseSession reads the answer to OpenSession.
func ParseSession(answer []byte) (id uint64, err error) {
	d := decoder{rest: answer}
	id = d.uvarint()
	return id, d.end("answer to open session")
}

// CloseSession returns the command of the system that closes a session.
func CloseSession(id uint64) []byte {
	return binary.AppendUvarint([]byte{systemCloseSession}, id)
}

// Query answers a read from the present state.
func (s *Stage) Query(query []byte) ([]byte, error) { return s.machine.Query(query) }
