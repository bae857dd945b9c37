package apply_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
)

var small = apply.Limits{Sessions: 4, Window: 6, SessionBytes: 40, Bytes: 100, Idle: 1000}

func TestSessionAnswersRepetitionsFromItsTable(t *testing.T) {
	m := &tape{}
	s, l := begun(m)
	s.WithLimits(small)
	of := func(sequence, acked uint64) replica.Command {
		return replica.Command{Session: 1, Sequence: sequence, Acked: acked,
			Data: fmt.Appendf(nil, "c%d", sequence)}
	}
	open := run(t, s, l.entry(replica.Command{System: true, Data: apply.OpenSession()}))
	if id, err := apply.ParseSession([]byte(open[0].text)); err != nil || id != 1 {
		t.Fatalf("the first session is %d, %v", id, err)
	}
	for i, step := range []struct {
		command replica.Command
		text    string
		refusal error
	}{
		{of(2, 0), "1:c2", nil},
		{of(1, 0), "2:c1", nil},
		{of(2, 0), "1:c2", nil},
		{of(1, 1), "", apply.ErrSequenceTooOld},
		{of(2, 1), "1:c2", nil}, // what is acknowledged goes, the rest stays
		{of(8, 1), "", apply.ErrSessionFull},
		{of(7, 1), "3:c7", nil},
		{of(8, 2), "4:c8", nil},
		{of(0, 0), "", apply.ErrSequenceTooOld},
		{of(7, 0), "3:c7", nil}, // an older acknowledgement takes nothing back
		{of(3, 100), "", apply.ErrSequenceTooOld},
		{of(101, 100), "5:c101", nil},
		{replica.Command{Session: 2, Sequence: 1}, "", apply.ErrSessionExpired},
	} {
		got := run(t, s, l.entry(step.command))[0]
		if got.text != step.text || !errors.Is(got.refusal, step.refusal) {
			t.Errorf("step %d: %+v, want %q, %v", i, got, step.text, step.refusal)
		}
	}
	run(t, s, l.entry(replica.Command{System: true, Data: apply.CloseSession(1)}))
	got := run(t, s, l.entry(of(101, 100)))[0]
	if !errors.Is(got.refusal, apply.ErrSessionExpired) {
		t.Errorf("after its close: %+v", got)
	}
	if len(m.commands) != 5 {
		t.Errorf("applied: %q", m.commands)
	}
}

// An answer belongs to the one who gets it: what they do to it is not seen by the next one.
func TestAnswersOfSessionsAreCopies(t *testing.T) {
	s, l := begun(&tape{})
	command := replica.Command{Session: 1, Sequence: 1, Data: []byte("a")}
	run(t, s, l.entry(replica.Command{System: true, Data: apply.OpenSession()}))
	for range 3 {
		must(t, s.Entry(l.entry(command), nil, func(_ int, text []byte, _ error) {
			if string(text) != "1:a" {
				t.Errorf("answer %q", text)
			}
			clear(text)
		}))
	}
}

// The answers of later sequences must not keep the first one out: the owner's acknowledgement waits
// for it.
func TestFullSessionTakesTheSequenceThatItWaitsFor(t *testing.T) {
	s, l := begun(&tape{})
	s.WithLimits(small)
	run(t, s, l.entry(replica.Command{System: true, Data: apply.OpenSession()}))
	long := strings.Repeat("x", 50)
	send := func(sequence, acked uint64) answer {
		return run(t, s, l.entry(replica.Command{Session: 1, Sequence: sequence, Acked: acked,
			Data: []byte(long)}))[0]
	}
	if got := send(2, 0); got.refusal != nil {
		t.Errorf("an empty session: %v", got.refusal)
	}
	if got := send(3, 0); !errors.Is(got.refusal, apply.ErrSessionFull) {
		t.Errorf("a full session: %+v", got)
	}
	if got := send(1, 0); got.refusal != nil {
		t.Errorf("the first sequence: %v", got.refusal)
	}
	if got := send(3, 2); got.refusal != nil {
		t.Errorf("after the acknowledgement: %v", got.refusal)
	}
}

// model is the contract of sessions, written for reading: nothing is kept twice or counted ahead.
type model struct {
	limits   apply.Limits
	clock    int64
	next     uint64
	sessions []*modelSession // by use, the least recent first
	applied  []string
}

type modelSession struct {
	id, acked uint64
	used      int64
	answers   map[uint64]string
}

func (s *modelSession) bytes() (n int) {
	for _, text := range s.answers {
		n += len(text)
	}
	return n
}

func (m *model) bytes() (n int) {
	for _, s := range m.sessions {
		n += s.bytes()
	}
	return n
}

func (m *model) time(clock int64) {
	m.clock = max(m.clock, clock)
	m.sessions = slices.DeleteFunc(m.sessions, func(s *modelSession) bool {
		return m.clock-s.used > m.limits.Idle
	})
}

func (m *model) open() uint64 {
	if len(m.sessions) == m.limits.Sessions {
		m.sessions = m.sessions[1:]
	}
	m.next++
	m.sessions = append(m.sessions, &modelSession{id: m.next, used: m.clock,
		answers: map[uint64]string{}})
	return m.next
}

func (m *model) close(id uint64) {
	m.sessions = slices.DeleteFunc(m.sessions, func(s *modelSession) bool { return s.id == id })
}

func (m *model) command(c replica.Command) answer {
	i := slices.IndexFunc(m.sessions, func(s *modelSession) bool { return s.id == c.Session })
	if i < 0 {
		return answer{refusal: apply.ErrSessionExpired}
	}
	s := m.sessions[i]
	m.sessions = append(slices.Delete(m.sessions, i, i+1), s)
	s.used, s.acked = m.clock, max(s.acked, c.Acked)
	for sequence := range s.answers {
		if sequence <= s.acked {
			delete(s.answers, sequence)
		}
	}
	text, known := s.answers[c.Sequence]
	switch {
	case c.Sequence <= s.acked:
		return answer{refusal: apply.ErrSequenceTooOld}
	case known:
		return answer{text: text}
	case c.Sequence > s.acked+uint64(m.limits.Window):
		return answer{refusal: apply.ErrSessionFull}
	case s.bytes() >= m.limits.SessionBytes && c.Sequence > s.acked+1:
		return answer{refusal: apply.ErrSessionFull}
	}
	m.applied = append(m.applied, string(c.Data))
	s.answers[c.Sequence] = fmt.Sprintf("%d:%s", len(m.applied), c.Data)
	for m.bytes() > m.limits.Bytes && m.sessions[0] != s {
		m.sessions = m.sessions[1:]
	}
	return answer{text: s.answers[c.Sequence]}
}

// history makes random commands: sessions are opened, closed, forgotten; sequences come twice, out
// of order, too early and too late; time goes on and stands still.
type history struct {
	*rand.Rand
	log
	opened uint64
}

func (h *history) draw() replica.Command {
	switch n := h.IntN(20); {
	case n == 0 || h.opened == 0:
		h.opened++
		return replica.Command{System: true, Data: apply.OpenSession()}
	case n == 1:
		return replica.Command{System: true, Data: apply.CloseSession(h.Uint64N(h.opened + 2))}
	case n == 2:
		return replica.Command{Data: []byte("outside")}
	}
	first := h.opened - min(h.opened-1, 5)
	c := replica.Command{Session: first + h.Uint64N(h.opened-first+1), Sequence: h.Uint64N(20)}
	if h.IntN(3) == 0 {
		c.Acked = h.Uint64N(c.Sequence + 1)
	}
	c.Data = fmt.Appendf(nil, "%d/%d%s", c.Session, c.Sequence, strings.Repeat("+", h.IntN(12)))
	return c
}

func (h *history) entry() (*pb.Entry, []replica.Command) {
	h.clock += h.Int64N(200) - 50
	if h.IntN(30) == 0 {
		h.clock += 800
	}
	commands := make([]replica.Command, 1+h.IntN(5))
	for i := range commands {
		commands[i] = h.draw()
	}
	return h.log.entry(commands...), commands
}

func (m *model) apply(clock int64, commands []replica.Command) (answers []answer) {
	m.time(clock)
	for _, c := range commands {
		var a answer
		switch {
		case c.Session != 0:
			a = m.command(c)
		case c.System && c.Data[0] == apply.OpenSession()[0]:
			a.text = string([]byte{byte(m.open())}) // below 128: one byte
		case c.System:
			m.close(uint64(c.Data[1]))
		default:
			m.applied = append(m.applied, string(c.Data))
			a.text = fmt.Sprintf("%d:%s", len(m.applied), c.Data)
		}
		answers = append(answers, a)
	}
	return answers
}

// follower is a replica that stops at any time and goes on from one of its snapshots.
type follower struct {
	*rand.Rand
	stage    *apply.Stage
	machine  *tape
	at       apply.Position
	snapshot []byte
}

func (f *follower) cut(t *testing.T) {
	var b bytes.Buffer
	must(t, f.stage.Snapshot(&b))
	f.at, f.snapshot = f.stage.Position(), b.Bytes()
}

// restart goes back to the snapshot and applies the entries behind it again.
func (f *follower) restart(t *testing.T, entries []*pb.Entry) {
	f.machine = &tape{}
	f.stage = apply.New(f.machine).WithLimits(small)
	must(t, f.stage.Restore(f.at, bytes.NewReader(f.snapshot)))
	for _, e := range entries {
		if e.GetIndex() > f.at.Index {
			must(t, f.stage.Entry(e, nil, nil))
		}
	}
}

func (f *follower) follow(t *testing.T, entries []*pb.Entry) {
	must(t, f.stage.Entry(entries[len(entries)-1], nil, nil))
	if f.IntN(5) == 0 {
		f.cut(t)
	}
	if f.IntN(5) == 0 {
		f.restart(t, entries)
	}
}

// Whatever clients send and however replicas restart: every replica has the state and gives the
// answers of the model, the bytes of their snapshots are the same, and no command of a session is
// in the state twice.
func TestSessionsAgreeWithTheirModel(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		leader := &tape{}
		stage, l := begun(leader)
		stage.WithLimits(small)
		h := &history{Rand: r, log: *l}
		m := &model{limits: small}
		f := &follower{Rand: r, machine: &tape{}}
		f.stage, _ = begun(f.machine)
		f.stage.WithLimits(small)
		f.cut(t)
		var entries []*pb.Entry
		for range 60 {
			e, commands := h.entry()
			entries = append(entries, e)
			want := m.apply(h.clock, commands)
			if got := run(t, stage, e); !slices.EqualFunc(got, want, sameAnswer) {
				t.Fatalf("seed %d, %v at clock %d: answers %v, want %v", seed, commands, h.clock,
					got, want)
			}
			f.follow(t, entries)
			sameState(t, seed, stage, f.stage)
		}
		onceEach(t, seed, leader.commands)
		if got := len(m.applied); got != len(leader.commands) || got != len(f.machine.commands) {
			t.Fatalf("seed %d: applied %d, %d, %d", seed, got, len(leader.commands),
				len(f.machine.commands))
		}
	}
}

func sameAnswer(a, b answer) bool { return a.text == b.text && errors.Is(a.refusal, b.refusal) }

func sameState(t *testing.T, seed uint64, a, b *apply.Stage) {
	t.Helper()
	var one, other bytes.Buffer
	must(t, a.Snapshot(&one))
	must(t, b.Snapshot(&other))
	if !bytes.Equal(one.Bytes(), other.Bytes()) {
		t.Fatalf("seed %d, index %d: the replicas differ:\n%q\n%q", seed, a.Index(), one.Bytes(),
			other.Bytes())
	}
}

func onceEach(t *testing.T, seed uint64, commands [][]byte) {
	t.Helper()
	seen := map[string]bool{}
	for _, c := range commands {
		name := strings.TrimRight(string(c), "+")
		if name != "outside" && seen[name] {
			t.Fatalf("seed %d: %s is applied twice", seed, name)
		}
		seen[name] = true
	}
}
