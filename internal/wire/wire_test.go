package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/connectraft/connect/internal/wire"
)

const limit = 1 << 20

func TestFramesComeBackAsTheyWere(t *testing.T) {
	frames := []wire.Frame{
		{ID: 1, Kind: wire.Write, Payload: []byte{}},
		{ID: 1<<64 - 1, Kind: wire.Read, Payload: []byte("q")},
		{ID: 2, Kind: wire.Write, Request: wire.Request{Group: 1 << 62, Session: 3, Sequence: 1 << 40,
			Acked: 1<<40 - 1}, Payload: []byte("in a session")},
		{ID: 3, Kind: wire.Read, Request: wire.Request{Group: 7, Level: wire.AtLeast, Bound: 1 << 63},
			Payload: []byte("q")},
		{ID: 4, Kind: wire.Read, Request: wire.Request{Level: wire.Stale, Bound: 500},
			Payload: []byte{}},
		{ID: 5, Kind: wire.OpenSession, Request: wire.Request{Group: 9}, Payload: []byte{}},
		{ID: 6, Kind: wire.CloseSession, Request: wire.Request{Group: 9, Session: 300},
			Payload: []byte{}},
		{ID: 7, Kind: wire.Reply, Status: wire.NotLeader, Leader: "127.0.0.1:7001",
			Payload: []byte("text")},
		{ID: 8, Kind: wire.Reply, Index: 1 << 60, Payload: bytes.Repeat([]byte("x"), 300_000)},
	}
	var stream []byte
	for _, f := range frames {
		stream = wire.AppendFrame(stream, f)
	}
	r := bytes.NewReader(stream)
	for _, want := range frames {
		got, err := wire.ReadFrame(r, limit)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
	}
	if _, err := wire.ReadFrame(r, limit); err != io.EOF {
		t.Fatalf("after the last frame: %v, want EOF", err)
	}
}

func TestLongLeaderIsLeftOut(t *testing.T) {
	f := wire.Frame{Kind: wire.Reply, Leader: strings.Repeat("l", 256), Payload: []byte("p")}
	got, err := wire.ReadFrame(bytes.NewReader(wire.AppendFrame(nil, f)), limit)
	if err != nil || got.Leader != "" || string(got.Payload) != "p" {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	sound := wire.AppendFrame(nil, wire.Frame{ID: 5, Kind: wire.Reply, Leader: "a:1",
		Payload: []byte("answer")})
	for bit := range len(sound) * 8 {
		damaged := bytes.Clone(sound)
		damaged[bit/8] ^= 1 << (bit % 8)
		if f, err := wire.ReadFrame(bytes.NewReader(damaged), limit); err == nil {
			t.Fatalf("bit %d flipped: read %+v", bit, f)
		}
	}
}

func TestTruncatedFrameIsUnexpectedEOF(t *testing.T) {
	sound := wire.AppendFrame(nil, wire.Frame{ID: 5, Kind: wire.Write, Payload: make([]byte, 100_000)})
	for _, n := range []int{1, 7, 8, 9, 70_000, len(sound) - 1} {
		if _, err := wire.ReadFrame(bytes.NewReader(sound[:n]), limit); err != io.ErrUnexpectedEOF {
			t.Errorf("%d of %d bytes: %v, want unexpected EOF", n, len(sound), err)
		}
	}
}

func TestDeclaredSizeIsCheckedFirst(t *testing.T) {
	for _, declared := range []uint32{0, 8, limit + 1, 1<<32 - 1} {
		header := binary.LittleEndian.AppendUint32(nil, declared)
		_, err := wire.ReadFrame(bytes.NewReader(append(header, 0, 0, 0, 0)), limit)
		if size, ok := errors.AsType[*wire.SizeError](err); !ok || size.Declared != declared {
			t.Errorf("declared %d: %v, want a SizeError", declared, err)
		}
	}
}

// frameOf makes a sound frame of a kind and any content.
func frameOf(kind wire.Kind, content ...byte) []byte {
	body := append(binary.LittleEndian.AppendUint64(nil, 1), byte(kind))
	body = append(body, content...)
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(body)))
	head = binary.LittleEndian.AppendUint32(head,
		crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return append(head, body...)
}

func TestMalformedRequests(t *testing.T) {
	if _, err := wire.ReadFrame(bytes.NewReader(frameOf(wire.OpenSession, 1)), limit); err != nil {
		t.Fatalf("a sound request: %v", err)
	}
	for name, frame := range map[string][]byte{
		"no group":                    frameOf(wire.Write),
		"group of eleven bytes":       frameOf(wire.OpenSession, bytes.Repeat([]byte{0x80}, 11)...),
		"no session":                  frameOf(wire.Write, 1),
		"no sequence":                 frameOf(wire.Write, 1, 2),
		"no acked":                    frameOf(wire.Write, 1, 2, 1),
		"sequence 0":                  frameOf(wire.Write, 1, 2, 0, 0, 'c'),
		"sequence without a session":  frameOf(wire.Write, 1, 0, 1, 0, 'c'),
		"acked without a session":     frameOf(wire.Write, 1, 0, 0, 1, 'c'),
		"no level":                    frameOf(wire.Read, 1),
		"a level that nobody knows":   frameOf(wire.Read, 1, 4, 0, 'q'),
		"no bound":                    frameOf(wire.Read, 1, 2),
		"payload of an open session":  frameOf(wire.OpenSession, 1, 1),
		"no session to close":         frameOf(wire.CloseSession, 1),
		"payload of a closed session": frameOf(wire.CloseSession, 1, 2, 3),
		"a kind that nobody knows":    frameOf(6, 1),
		"kind 0":                      frameOf(0, 1),
	} {
		f, err := wire.ReadFrame(bytes.NewReader(frame), limit)
		if !errors.Is(err, wire.ErrFrame) {
			t.Errorf("%s: %+v, %v, want ErrFrame", name, f, err)
		}
	}
}

func TestSessionIDs(t *testing.T) {
	for _, id := range []uint64{1, 127, 128, 1<<64 - 1} {
		if got, ok := wire.ParseSession(wire.AppendSession(nil, id)); got != id || !ok {
			t.Errorf("%d came back as %d, %v", id, got, ok)
		}
	}
	for _, bad := range [][]byte{nil, {0}, {1, 1}, {0x80}} {
		if id, ok := wire.ParseSession(bad); ok {
			t.Errorf("% x is session %d", bad, id)
		}
	}
}

func TestPreamble(t *testing.T) {
	if err := wire.ReadPreamble(bytes.NewReader(wire.AppendPreamble(nil))); err != nil {
		t.Fatal(err)
	}
	other := wire.AppendPreamble(nil)
	other[4]++
	if err := wire.ReadPreamble(bytes.NewReader(other)); !errors.Is(err, wire.ErrPreamble) {
		t.Errorf("other version: %v", err)
	}
	if err := wire.ReadPreamble(bytes.NewReader(other[:2])); err == nil {
		t.Error("two bytes passed as a preamble")
	}
}

func TestCommandsComeBackAsTheyWere(t *testing.T) {
	tests := []struct {
		name string
		args [][]byte
	}{
		{"get", nil},
		{"set", [][]byte{[]byte("key"), {}}},
		{strings.Repeat("n", wire.NameBytes), [][]byte{make([]byte, 70_000)}},
	}
	for _, test := range tests {
		name, args, err := wire.ParseCommand(wire.AppendCommand(nil, test.name, test.args))
		if err != nil || string(name) != test.name || !reflect.DeepEqual(args, test.args) {
			t.Errorf("%.10s: got %.10s %v, %v", test.name, name, len(args), err)
		}
	}
}

func TestMalformedCommands(t *testing.T) {
	sound := wire.AppendCommand(nil, "set", [][]byte{[]byte("k"), []byte("v")})
	bad := [][]byte{nil, {1}, {2, 0, 0}, {1, 9, 'x'}, append(bytes.Clone(sound), 0),
		{1, 0, 0xff, 0xff, 0xff, 0xff, 0x7f},
		{1, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}}
	for n := range sound {
		bad = append(bad, sound[:n])
	}
	for _, b := range bad {
		if _, _, err := wire.ParseCommand(b); !errors.Is(err, wire.ErrCommand) {
			t.Errorf("% x: %v, want ErrCommand", b, err)
		}
	}
}

func TestGarbageNeverPanics(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		b := make([]byte, random.IntN(64))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		if len(b) > 1 {
			b[0] = 1
		}
		_, _, _ = wire.ParseCommand(b)
		if _, err := wire.ReadFrame(bytes.NewReader(b), limit); err == nil {
			t.Fatalf("% x passed as a frame", b)
		}
	}
}

func BenchmarkCommand(b *testing.B) {
	args := [][]byte{[]byte("key:000000000042"), []byte("value")}
	encoded := wire.AppendCommand(nil, "set", args)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := wire.ParseCommand(encoded); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleAppendCommand() {
	encoded := wire.AppendCommand(nil, "set", [][]byte{[]byte("k"), []byte("v")})
	name, args, err := wire.ParseCommand(encoded)
	fmt.Printf("%s %s %v\n", name, args, err)
	// Output: set [k v] <nil>
}
