package replica_test

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"strings"
	"testing"

	"github.com/connectraft/connect/internal/replica"
)

// packed is an entry of the commands, with a clock of 7.
func packed(commands ...replica.Command) []byte {
	b := binary.LittleEndian.AppendUint64([]byte{2}, 7)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(commands)))
	for _, c := range commands {
		b = replica.AppendCommand(b, c)
	}
	return b
}

func TestCommandsSurviveTheEncoding(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 1<<14)
	for name, test := range map[string]struct {
		command replica.Command
		over    int // bytes beside the data
	}{
		"empty":          {replica.Command{Data: []byte{}}, 1},
		"63 bytes":       {replica.Command{Data: long[:63]}, 1},
		"64 bytes":       {replica.Command{Data: long[:64]}, 2},
		"16 KiB":         {replica.Command{Data: long}, 3},
		"of the system":  {replica.Command{System: true, Data: []byte("open")}, 4},
		"of a session":   {replica.Command{Session: 5, Sequence: 3, Acked: 1, Data: []byte("a")}, 4},
		"of a large one": {replica.Command{Session: 1 << 63, Sequence: 300, Data: []byte("a")}, 14},
	} {
		encoded := replica.AppendCommand([]byte("before"), test.command)[len("before"):]
		if got := len(encoded) - len(test.command.Data); got != test.over {
			t.Errorf("%s: %d bytes beside the data, want %d", name, got, test.over)
		}
		if test.command.Size() != len(encoded) {
			t.Errorf("%s: Size is %d, the encoding has %d", name, test.command.Size(), len(encoded))
		}
		got, rest, err := replica.ParseCommand(append(encoded, "behind"...))
		if err != nil || string(rest) != "behind" || !reflect.DeepEqual(got, test.command) {
			t.Errorf("%s: got %+v, %q, %v", name, got, rest, err)
		}
		for n := range encoded {
			if _, _, err := replica.ParseCommand(encoded[:n]); err == nil {
				t.Errorf("%s: its first %d bytes are taken for a command", name, n)
			}
		}
	}
}

func TestUnpackRefusesMalformedEntries(t *testing.T) {
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"short":        {[]byte{2, 2, 3}, "3 bytes"},
		"other format": {append([]byte{9}, make([]byte, 12)...), "format 9"},
	} {
		_, err := replica.Unpack(test.data)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	data := packed(replica.Command{Data: make([]byte, 200)})
	entry, err := replica.Unpack(data[:len(data)-1])
	must(t, err)
	if _, err := entry.Next(); err == nil {
		t.Error("a command beyond the entry was returned")
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte{})
	f.Add(packed())
	f.Add(packed(replica.Command{Data: []byte("one")}, replica.Command{System: true},
		replica.Command{Session: 9, Sequence: 2, Acked: 1, Data: make([]byte, 100)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		entry, err := replica.Unpack(data)
		if err != nil {
			return
		}
		for range entry.Commands {
			c, err := entry.Next()
			if err != nil {
				return
			}
			if c.System && c.Session != 0 {
				t.Fatalf("a command of the system has session %d", c.Session)
			}
			encoded := replica.AppendCommand(nil, c)
			again, rest, err := replica.ParseCommand(encoded)
			if err != nil || len(rest) != 0 || !reflect.DeepEqual(again, c) ||
				len(encoded) != c.Size() {
				t.Fatalf("%+v becomes %+v, %d bytes are left, %v", c, again, len(rest), err)
			}
		}
	})
}

func BenchmarkUnpack(b *testing.B) {
	const commands = 64
	data := packed(make([]replica.Command, commands)...)
	entry, err := replica.Unpack(data)
	if err != nil {
		b.Fatal(err)
	}
	left := entry
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%commands == 0 {
			left = entry
		}
		if _, err := left.Next(); err != nil {
			b.Fatal(err)
		}
	}
}
