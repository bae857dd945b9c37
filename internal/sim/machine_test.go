package sim_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/connectraft/connect/statemachine"
)

// A command is u64 id │ u8 kind │ u8 key │ value. Ids are never used twice.
const (
	kindPut    = iota // replaces the value
	kindAppend        // adds to the end of the value
	kindCount         // of kinds
	commandMin = 10
)

func encodeCommand(id uint64, kind, key byte, value []byte) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, commandMin+len(value)), id)
	return append(append(b, kind, key), value...)
}

func commandID(command []byte) uint64 { return binary.LittleEndian.Uint64(command) }

// cell is the value of a key. What a command answers, and a query, is the cell it leaves or finds.
type cell struct {
	version uint64 // commands that changed it
	value   []byte
}

func (c cell) encode() []byte {
	b := make([]byte, 0, 8+len(c.value))
	return append(binary.LittleEndian.AppendUint64(b, c.version), c.value...)
}

func (c cell) hash(key byte) uint64 { return mix(mix(uint64(key), c.version), hashBytes(c.value)) }

// machine is an order-sensitive state machine: its state tells every order of commands, every time
// and every repetition apart. Its hash is computed from the state alone, so a restored machine
// proves what it has restored.
type machine struct {
	cells   map[byte]cell
	history uint64 // hash of all commands in their order, with index and time
	applied uint64 // commands
	sum     uint64 // of the cells' hashes
}

var _ statemachine.Machine = (*machine)(nil)

func newMachine() *machine { return &machine{cells: map[byte]cell{}} }

const valueBytesMax = 64

func (m *machine) Apply(meta statemachine.Meta, command []byte) ([]byte, error) {
	if len(command) < commandMin {
		return nil, fmt.Errorf("command of %d bytes", len(command))
	}
	kind, key, value := command[8], command[9], command[10:]
	c := m.cells[key]
	old := c
	c.version++
	if kind == kindPut || len(c.value)+len(value) > valueBytesMax {
		c.value = slices.Clone(value)
	} else {
		c.value = slices.Concat(c.value, value)
	}
	if old.version > 0 {
		m.sum -= old.hash(key)
	}
	m.sum += c.hash(key)
	m.cells[key] = c
	m.applied++
	m.history = mix(mix(mix(m.history, meta.Index), uint64(meta.Time.UnixNano())), hashBytes(command))
	return c.encode(), nil
}

func (m *machine) Query(query []byte) ([]byte, error) {
	if len(query) != 1 {
		return nil, errors.New("malformed query")
	}
	return m.cells[query[0]].encode(), nil
}

func (m *machine) hash() uint64 { return mix(mix(m.history, m.applied), m.sum) }

func (m *machine) Snapshot(w io.Writer) error {
	b := binary.LittleEndian.AppendUint64(nil, m.history)
	b = binary.LittleEndian.AppendUint64(b, m.applied)
	for _, key := range slices.Sorted(maps.Keys(m.cells)) {
		c := m.cells[key]
		b = append(b, key, byte(len(c.value)))
		b = binary.LittleEndian.AppendUint64(b, c.version)
		b = append(b, c.value...)
	}
	_, err := w.Write(b)
	return err
}

func (m *machine) Restore(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if len(b) < 16 {
		return io.ErrUnexpectedEOF
	}
	*m = *newMachine()
	m.history, m.applied = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	for b = b[16:]; len(b) > 0; {
		if len(b) < 10 || len(b) < 10+int(b[1]) {
			return io.ErrUnexpectedEOF
		}
		key, c := b[0], cell{version: binary.LittleEndian.Uint64(b[2:])}
		c.value = slices.Clone(b[10 : 10+int(b[1])])
		m.cells[key] = c
		m.sum += c.hash(key)
		b = b[10+int(b[1]):]
	}
	return nil
}
