package transport

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// messageSlot holds a message and all that its pointers point to, so that the messages of a
// frame cost one allocation instead of one for each field.
type messageSlot struct {
	message     raftpb.Message
	messageType raftpb.MessageType
	reject      bool
	numbers     [messageNumbers]uint64
}

// entrySlot is to entries what messageSlot is to messages. Nothing is shared between entries,
// so that writing through one entry's pointer, wrong as it would be, changes no other.
type entrySlot struct {
	entry       raftpb.Entry
	entryType   raftpb.EntryType
	term, index uint64
}

// decodeMessages decodes the payload of a raft frame. Contexts and entries' data alias payload,
// which the caller therefore gives up. limit bounds the memory that the messages take beside
// their data; it is checked before the memory is taken.
func decodeMessages(payload []byte, limit int64) ([]*raftpb.Message, error) {
	c := cursor{data: payload, budget: limit}
	if len(payload) < 4 {
		return nil, c.damaged("no message count")
	}
	count := binary.LittleEndian.Uint32(payload)
	c.at = 4
	if !c.take(uint64(count), messageCost) {
		return nil, c.damaged("%d messages", count)
	}
	slots, messages := makeSlots(int(count))
	for i := range slots {
		if err := c.message(&slots[i]); err != nil {
			return nil, err
		}
		messages[i] = &slots[i].message
	}
	if c.at != len(payload) {
		return nil, c.damaged("%d bytes after the last message", len(payload)-c.at)
	}
	return messages, nil
}

// makeSlots makes room for messages. Most frames have one, which takes a single allocation.
func makeSlots(count int) ([]messageSlot, []*raftpb.Message) {
	if count == 1 {
		one := new(struct {
			slot    [1]messageSlot
			message [1]*raftpb.Message
		})
		return one.slot[:], one.message[:]
	}
	return make([]messageSlot, count), make([]*raftpb.Message, count)
}

// cursor reads a payload. A read beyond the end sets failed and yields zeros; the caller looks
// at failed once for each message and entry.
type cursor struct {
	data   []byte
	at     int
	budget int64
	failed bool
}

func (c *cursor) damaged(format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	return fmt.Errorf("%w: raft payload at byte %d: %s", errDamaged, c.at, what)
}

// take reserves memory for count items that cost bytes each and take at least one byte of the
// payload each.
func (c *cursor) take(count uint64, cost int64) bool {
	if count > uint64(len(c.data)-c.at) || int64(count)*cost > c.budget {
		return false
	}
	c.budget -= int64(count) * cost
	return true
}

func (c *cursor) uvarint() uint64 {
	if c.at < len(c.data) && c.data[c.at] < 0x80 {
		c.at++
		return uint64(c.data[c.at-1])
	}
	v, n := binary.Uvarint(c.data[c.at:])
	if n <= 0 {
		c.failed = true
		return 0
	}
	c.at += n
	return v
}

// bytes returns a length-prefixed part of the payload, never nil, without room to append into
// what follows it.
func (c *cursor) bytes() []byte {
	n := c.uvarint()
	if n > uint64(len(c.data)-c.at) {
		c.failed = true
		return nil
	}
	end := c.at + int(n)
	p := c.data[c.at:end:end]
	c.at = end
	return p
}

func (c *cursor) message(slot *messageSlot) error {
	if len(c.data)-c.at < 3 {
		return c.damaged("message cut short")
	}
	flags := binary.LittleEndian.Uint16(c.data[c.at:])
	slot.messageType = raftpb.MessageType(c.data[c.at+2])
	c.at += 3
	if flags&^uint16(flagsKnown) != 0 {
		return c.damaged("unknown message flags %#x", flags)
	}
	if !isNetworkMessage(slot.messageType) {
		return c.damaged("message type %d", slot.messageType)
	}
	m := &slot.message
	m.Type = &slot.messageType
	c.numbers(flags, slot)
	if flags&flagReject != 0 {
		slot.reject = flags&flagRejectValue != 0
		m.Reject = &slot.reject
	}
	if flags&flagContext != 0 {
		m.Context = c.bytes()
	}
	if flags&flagSnapshot != 0 {
		m.Snapshot = &raftpb.Snapshot{}
		if err := proto.Unmarshal(c.bytes(), m.Snapshot); err != nil {
			return c.damaged("snapshot: %v", err)
		}
	}
	if flags&flagEntries != 0 {
		if err := c.entries(m); err != nil {
			return err
		}
	}
	if c.failed {
		return c.damaged("message cut short")
	}
	return nil
}

func (c *cursor) numbers(flags uint16, slot *messageSlot) {
	m := &slot.message
	fields := [messageNumbers]**uint64{
		&m.To, &m.From, &m.Term, &m.LogTerm, &m.Index, &m.Commit, &m.Vote, &m.RejectHint,
	}
	for i, field := range fields {
		if flags&(1<<i) != 0 {
			slot.numbers[i] = c.uvarint()
			*field = &slot.numbers[i]
		}
	}
}

func (c *cursor) entries(m *raftpb.Message) error {
	count := c.uvarint()
	if count == 0 || !c.take(count, entryCost) {
		return c.damaged("%d entries", count)
	}
	slots := make([]entrySlot, count)
	m.Entries = make([]*raftpb.Entry, count)
	term, index := m.GetTerm(), m.GetIndex()
	for i := range slots {
		slot := &slots[i]
		if err := c.entry(slot, term, index+1); err != nil {
			return err
		}
		if slot.entry.Term != nil {
			term = slot.term
		}
		if slot.entry.Index != nil {
			index = slot.index
		}
		m.Entries[i] = &slot.entry
	}
	return nil
}

func (c *cursor) entry(slot *entrySlot, term, index uint64) error {
	if c.at >= len(c.data) {
		return c.damaged("entry cut short")
	}
	flags := c.data[c.at]
	c.at++
	termMode, indexMode := flags>>entryTermShift&3, flags>>entryIndexShift&3
	if flags&entryUnknown != 0 || termMode > numberImplied || indexMode > numberImplied {
		return c.damaged("unknown entry flags %#x", flags)
	}
	e := &slot.entry
	if t := flags & entryTypeMask; t != 0 {
		slot.entryType = raftpb.EntryType(t - 1)
		e.Type = &slot.entryType
	}
	if termMode != numberAbsent {
		slot.term = c.number(termMode, term)
		e.Term = &slot.term
	}
	if indexMode != numberAbsent {
		slot.index = c.number(indexMode, index)
		e.Index = &slot.index
	}
	if flags&entryData != 0 {
		e.Data = c.bytes()
	}
	if c.failed {
		return c.damaged("entry cut short")
	}
	return nil
}

func (c *cursor) number(mode byte, implied uint64) uint64 {
	if mode == numberImplied {
		return implied
	}
	return c.uvarint()
}
