package transport

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// The payload of a raft frame is a u32 count and that many messages. A message is
//
//	+-------+------+--------------------+---------+----------+---------+
//	| flags | type | present numbers    | context | snapshot | entries |
//	+-------+------+--------------------+---------+----------+---------+
//	  u16     u8     uvarint each         each only if its flag is set
//
// Bits 0 to 7 of flags say which of To, From, Term, LogTerm, Index, Commit, Vote and RejectHint
// are present, in this order; bit 8 that Reject is, and bit 9 is its value; bits 10, 11 and 12
// say that there are a context, a snapshot and entries. The other bits are zero. The context is
// a uvarint length and bytes; the snapshot a uvarint length and its protobuf encoding; the
// entries are a uvarint count and that many of
//
//	+-------+-----------+-----------+------------------+
//	| flags | term      | index     | data             |
//	+-------+-----------+-----------+------------------+
//	  u8      uvarint     uvarint     uvarint length, bytes
//
// Bits 0 and 1 of an entry's flags are its type: 0 absent, else the type's number plus one. Bits
// 2 and 3 tell the term: 0 absent, 1 given, 2 the same as the entry's before (for the first one
// the message's Term). Bits 4 and 5 tell the index likewise, where 2 means one more than the
// entry's before (for the first one the message's Index). Bit 6 says that there is data. In the
// usual append an entry so costs its data and two to four bytes.
//
// Presence is kept exactly, so that a decoded message is proto.Equal to the one encoded. Fields
// that network messages do not have (Responses) are not carried.
const (
	flagReject      = 1 << 8
	flagRejectValue = 1 << 9
	flagContext     = 1 << 10
	flagSnapshot    = 1 << 11
	flagEntries     = 1 << 12
	flagsKnown      = 1<<13 - 1

	entryTypeMask   = 0x03
	entryTermShift  = 2
	entryIndexShift = 4
	entryData       = 1 << 6
	entryUnknown    = 1 << 7

	numberAbsent  = 0
	numberGiven   = 1
	numberImplied = 2
)

const (
	// messageCost and entryCost are what a message and an entry weigh in memory beside their
	// data. They are also more than the bytes these take on the wire, so that one figure bounds
	// queues, frames and what a received frame decodes to.
	messageCost = 384
	entryCost   = 112
)

// messageNumbers is the number of optional numeric fields, one flag bit each.
const messageNumbers = 8

// costOf returns what m weighs in queues and against the frame limit.
func costOf(m *raftpb.Message) int64 {
	n := int64(messageCost + len(m.Context))
	for _, e := range m.Entries {
		n += entryCost + int64(len(e.GetData()))
	}
	if m.Snapshot != nil {
		n += int64(proto.Size(m.Snapshot))
	}
	return n
}

// isNetworkMessage tells the types that travel between nodes from those that are addressed to
// a node's own threads, which no peer may claim.
func isNetworkMessage(t raftpb.MessageType) bool {
	switch t {
	case raftpb.MsgProp, raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp,
		raftpb.MsgSnap, raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTransferLeader,
		raftpb.MsgTimeoutNow, raftpb.MsgReadIndex, raftpb.MsgReadIndexResp,
		raftpb.MsgPreVote, raftpb.MsgPreVoteResp:
		return true
	}
	return false
}

// messages adds a raft payload. The messages have passed checkMessage.
func (b *batch) messages(messages []*raftpb.Message) {
	b.uint32(uint32(len(messages)))
	for _, m := range messages {
		b.message(m)
	}
}

func (b *batch) message(m *raftpb.Message) {
	flagsAt := len(b.buffer)
	b.buffer = append(b.buffer, 0, 0, byte(m.GetType()))
	flags := uint16(0)
	numbers := [messageNumbers]*uint64{
		m.To, m.From, m.Term, m.LogTerm, m.Index, m.Commit, m.Vote, m.RejectHint,
	}
	for i, v := range numbers {
		if v != nil {
			flags |= 1 << i
			b.uvarint(*v)
		}
	}
	if m.Reject != nil {
		flags |= flagReject
		if *m.Reject {
			flags |= flagRejectValue
		}
	}
	if m.Context != nil {
		flags |= flagContext
		b.uvarint(uint64(len(m.Context)))
		b.data(m.Context)
	}
	if m.Snapshot != nil {
		flags |= flagSnapshot
		b.snapshot(m.Snapshot)
	}
	if len(m.Entries) > 0 {
		flags |= flagEntries
		b.entries(m)
	}
	binary.LittleEndian.PutUint16(b.buffer[flagsAt:], flags)
}

func (b *batch) snapshot(s *raftpb.Snapshot) {
	b.uvarint(uint64(proto.Size(s)))
	// Marshalling plain proto2 messages without required fields and extensions cannot fail.
	b.buffer, _ = proto.MarshalOptions{}.MarshalAppend(b.buffer, s)
}

func (b *batch) entries(m *raftpb.Message) {
	b.uvarint(uint64(len(m.Entries)))
	term, index := m.GetTerm(), m.GetIndex()
	for _, e := range m.Entries {
		flagsAt := len(b.buffer)
		b.buffer = append(b.buffer, 0)
		flags := byte(0)
		if e == nil {
			e = &raftpb.Entry{}
		}
		if e.Type != nil {
			flags |= byte(*e.Type) + 1
		}
		if e.Term != nil {
			flags |= b.number(*e.Term, term) << entryTermShift
			term = *e.Term
		}
		if e.Index != nil {
			flags |= b.number(*e.Index, index+1) << entryIndexShift
			index = *e.Index
		}
		if e.Data != nil {
			flags |= entryData
			b.uvarint(uint64(len(e.Data)))
			b.data(e.Data)
		}
		b.buffer[flagsAt] = flags
	}
}

// number adds v unless the reader knows it already, and returns how to tell the reader so.
func (b *batch) number(v, implied uint64) byte {
	if v == implied {
		return numberImplied
	}
	b.uvarint(v)
	return numberGiven
}

// checkMessage returns why m cannot be sent, or nil.
func checkMessage(m *raftpb.Message) error {
	if t := m.GetType(); !isNetworkMessage(t) {
		return fmt.Errorf("%v is not a message between nodes", t)
	}
	for _, e := range m.Entries {
		if t := e.GetType(); t < 0 || t > raftpb.EntryConfChangeV2 {
			return fmt.Errorf("entry %d has unknown type %d", e.GetIndex(), t)
		}
	}
	return nil
}
