package apply_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/connectraft/connect/internal/apply"
	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/statemachine"
)

// tape is a machine that keeps every command, and answers with its number and itself.
type tape struct {
	commands [][]byte
	times    []int64
	fail     error
}

func (m *tape) Apply(meta statemachine.Meta, command []byte) ([]byte, error) {
	if m.fail != nil {
		return nil, m.fail
	}
	m.commands = append(m.commands, bytes.Clone(command))
	m.times = append(m.times, meta.Time.UnixNano())
	return fmt.Appendf(nil, "%d:%s", len(m.commands), command), nil
}

func (m *tape) Query([]byte) ([]byte, error) { return bytes.Join(m.commands, []byte(",")), nil }

func (m *tape) Snapshot(w io.Writer) error {
	var b []byte
	for _, c := range m.commands {
		b = append(binary.AppendUvarint(b, uint64(len(c))), c...)
	}
	_, err := w.Write(b)
	return err
}

func (m *tape) Restore(r io.Reader) error {
	b, err := io.ReadAll(r)
	m.commands = nil
	for len(b) > 0 {
		n, size := binary.Uvarint(b)
		m.commands = append(m.commands, bytes.Clone(b[size:size+int(n)]))
		b = b[size+int(n):]
	}
	return err
}

// log makes entries that follow each other.
type log struct {
	index uint64
	clock int64
}

func (l *log) entry(commands ...replica.Command) *pb.Entry {
	data := binary.LittleEndian.AppendUint64([]byte{2}, uint64(l.clock))
	data = binary.LittleEndian.AppendUint32(data, uint32(len(commands)))
	for _, c := range commands {
		data = replica.AppendCommand(data, c)
	}
	return l.next(pb.EntryNormal, data)
}

func (l *log) change(members ...apply.Member) *pb.Entry {
	data, err := proto.Marshal(&pb.ConfChangeV2{Context: apply.AppendMembers(nil, members)})
	if err != nil {
		panic(err)
	}
	return l.next(pb.EntryConfChangeV2, data)
}

func (l *log) next(kind pb.EntryType, data []byte) *pb.Entry {
	l.index++
	return &pb.Entry{Type: &kind, Index: new(l.index), Term: new(uint64(3)), Data: data}
}

// answer is what a command came to.
type answer struct {
	text    string
	refusal error
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run applies an entry and returns the answers.
func run(t *testing.T, s *apply.Stage, e *pb.Entry) (answers []answer) {
	t.Helper()
	must(t, s.Entry(e, nil, func(i int, text []byte, refusal error) {
		if i != len(answers) {
			t.Fatalf("command %d is answered after %d", i, len(answers))
		}
		answers = append(answers, answer{string(text), refusal})
	}))
	return answers
}

var beginning = apply.Position{Index: 1, Term: 1, Members: &pb.ConfState{Voters: []uint64{1, 2, 3}}}

func begun(machine statemachine.Machine) (*apply.Stage, *log) {
	s := apply.New(machine)
	s.Begin(beginning, []apply.Member{{ID: 1, Address: "a:1"}, {ID: 2, Address: "b:1"}, {ID: 3}})
	return s, &log{index: 1, clock: 1000}
}

// restored is another stage that begins with a snapshot of s.
func restored(t *testing.T, s *apply.Stage, machine statemachine.Machine) *apply.Stage {
	t.Helper()
	var b bytes.Buffer
	must(t, s.Snapshot(&b))
	again := apply.New(machine)
	must(t, again.Restore(s.Position(), &b))
	return again
}

func TestEntryAnswersItsCommandsInOrder(t *testing.T) {
	m := &tape{}
	s, l := begun(m)
	got := run(t, s, l.entry(replica.Command{Data: []byte("a")},
		replica.Command{Data: []byte("b")}))
	if len(got) != 2 || got[0].text != "1:a" || got[1].text != "2:b" {
		t.Errorf("answers: %v", got)
	}
	must(t, s.Entry(l.next(pb.EntryNormal, nil), nil, nil)) // a new leader's own
	if at := s.Position(); at.Index != 3 || at.Term != 3 || at.Clock != 1000 ||
		len(at.Members.GetVoters()) != 3 {
		t.Errorf("position: %+v", at)
	}
	if text, err := s.Query(nil); err != nil || string(text) != "a,b" {
		t.Errorf("query: %q, %v", text, err)
	}
}

func TestReplicatedTimeNeverGoesBack(t *testing.T) {
	m := &tape{}
	s, l := begun(m)
	for _, clock := range []int64{500, 400, 600} {
		l.clock = clock
		run(t, s, l.entry(replica.Command{Data: []byte("x")}))
	}
	if fmt.Sprint(m.times) != "[500 500 600]" {
		t.Errorf("times: %v", m.times)
	}
}

func TestErrorsThatEndTheReplica(t *testing.T) {
	broken := errors.New("as asked")
	for name, test := range map[string]struct {
		machine *tape
		entry   func(l *log) *pb.Entry
		want    error
	}{
		"machine": {&tape{fail: broken},
			func(l *log) *pb.Entry { return l.entry(replica.Command{}) }, broken},
		"machine, in a session": {&tape{fail: broken}, func(l *log) *pb.Entry {
			return l.entry(replica.Command{System: true, Data: apply.OpenSession()},
				replica.Command{Session: 1, Sequence: 1})
		}, broken},
		"empty command of the system": {&tape{},
			func(l *log) *pb.Entry { return l.entry(replica.Command{System: true}) },
			apply.ErrMalformed},
		"command of a newer system": {&tape{},
			func(l *log) *pb.Entry {
				return l.entry(replica.Command{System: true, Data: []byte{200}})
			}, apply.ErrMalformed},
		"members of a newer format": {&tape{}, func(l *log) *pb.Entry {
			data, err := proto.Marshal(&pb.ConfChangeV2{Context: []byte{9}})
			must(t, err)
			return l.next(pb.EntryConfChangeV2, data)
		}, apply.ErrMalformed},
	} {
		s, l := begun(test.machine)
		if err := s.Entry(test.entry(l), beginning.Members, nil); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	s, l := begun(&tape{})
	l.index++
	if err := s.Entry(l.entry(), nil, nil); err == nil {
		t.Error("an entry that does not follow was applied")
	}
}

func TestSnapshotHoldsEverything(t *testing.T) {
	s, l := begun(&tape{})
	run(t, s, l.entry(replica.Command{System: true, Data: apply.OpenSession()},
		replica.Command{Session: 1, Sequence: 1, Data: []byte("a")}))
	change := l.change(apply.Member{ID: 3, Address: "c:2", Incarnation: 7})
	must(t, s.Entry(change, beginning.Members, nil))
	m := &tape{commands: [][]byte{[]byte("something older")}}
	again := restored(t, s, m)
	if at := again.Position(); at != s.Position() {
		t.Errorf("position: %+v, want %+v", at, s.Position())
	}
	d := again.Directory()
	if d.Version != 3 || len(d.Members) != 3 || d.Members[2].Incarnation != 7 {
		t.Errorf("directory: %+v", d)
	}
	got := run(t, again, l.entry(replica.Command{Session: 1, Sequence: 1, Data: []byte("a")}))
	if got[0].text != "1:a" || len(m.commands) != 1 {
		t.Errorf("the repeated command: %v, the machine has %q", got, m.commands)
	}
}

func TestRestoreOfBrokenStreamsIsRefused(t *testing.T) {
	s, l := begun(&tape{})
	run(t, s, l.entry(replica.Command{System: true, Data: apply.OpenSession()},
		replica.Command{Session: 1, Sequence: 1, Data: []byte("a")}))
	var b bytes.Buffer
	must(t, s.Snapshot(&b))
	machinePart := 2 // the length of "a" and itself
	for n := range b.Len() - machinePart {
		m := &tape{commands: [][]byte{[]byte("x")}}
		if err := apply.New(m).Restore(s.Position(), bytes.NewReader(b.Bytes()[:n])); err == nil {
			t.Errorf("%d of %d bytes were restored", n, b.Len())
		}
		if len(m.commands) != 1 {
			t.Errorf("the machine was touched by %d bytes", n)
		}
	}
	b.Bytes()[0] = 9
	if err := apply.New(&tape{}).Restore(s.Position(), &b); !errors.Is(err, apply.ErrMalformed) {
		t.Errorf("another format: %v", err)
	}
}

// TestOtherFormatsAreNamed holds that who meets the format of another version learns which one it is.
func TestOtherFormatsAreNamed(t *testing.T) {
	s, l := begun(&tape{})
	data, err := proto.Marshal(&pb.ConfChangeV2{Context: []byte{9}})
	must(t, err)
	members := s.Entry(l.next(pb.EntryConfChangeV2, data), beginning.Members, nil)
	entry := s.Entry(l.next(pb.EntryNormal, append([]byte{9}, make([]byte, 12)...)), nil, nil)
	snapshot := s.Restore(s.Position(), bytes.NewReader([]byte{9}))
	for what, err := range map[string]error{"members": members, "entry": entry,
		"snapshot": snapshot} {
		if err == nil || !strings.Contains(err.Error(), "format 9, this version reads format ") ||
			!strings.Contains(err.Error(), ": another version has written it") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzRestore(f *testing.F) {
	s, l := begun(&tape{})
	_ = s.Entry(l.entry(replica.Command{System: true, Data: apply.OpenSession()},
		replica.Command{Session: 1, Sequence: 3, Data: []byte("a")}), nil, nil)
	var b bytes.Buffer
	if err := s.Snapshot(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{1, 255, 255, 255, 63})
	f.Fuzz(func(_ *testing.T, data []byte) {
		_ = apply.New(nothing{}).Restore(beginning, bytes.NewReader(data))
	})
}

// nothing is a machine without a state.
type nothing struct{}

func (nothing) Apply(statemachine.Meta, []byte) ([]byte, error) { return nil, nil }
func (nothing) Query([]byte) ([]byte, error)                    { return nil, nil }
func (nothing) Snapshot(io.Writer) error                        { return nil }
func (nothing) Restore(io.Reader) error                         { return nil }

// BenchmarkEntry is the cost of the stage for a command, 64 commands an entry.
func BenchmarkEntry(b *testing.B) {
	const perEntry, entries = 64, 64
	for _, kind := range []string{"ordinary", "of a session"} {
		b.Run(kind, func(b *testing.B) {
			s, l := begun(nothing{})
			done := func(int, []byte, error) {}
			open := l.entry(replica.Command{System: true, Data: apply.OpenSession()})
			if err := s.Entry(open, nil, done); err != nil {
				b.Fatal(err)
			}
			commands := make([]replica.Command, perEntry)
			prepared := make([]*pb.Entry, entries) // a session lives through one round of them
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if n%(perEntry*entries) == 0 {
					b.StopTimer()
					for i := range prepared {
						prepared[i] = l.entry(benchCommands(commands, kind, n+i*perEntry)...)
					}
					b.StartTimer()
				}
				if n%perEntry != 0 {
					continue
				}
				if err := s.Entry(prepared[n/perEntry%entries], nil, done); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchCommands(commands []replica.Command, kind string, first int) []replica.Command {
	payload := make([]byte, 16)
	for i := range commands {
		commands[i] = replica.Command{Data: payload}
		if kind != "ordinary" {
			commands[i].Session, commands[i].Acked = 1, uint64(first)
			commands[i].Sequence = uint64(first + i + 1)
		}
	}
	return commands
}
