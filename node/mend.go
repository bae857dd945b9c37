package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/transport"
	"github.com/connectraft/connect/wal"
)

// A hole in the log with intact entries behind it is filled from any peer: two logs that have an
// entry of the same term at one index are the same up to there (thesis section 3.5, Log Matching),
// so a peer's entries fit when its entry at the first intact index has the term of ours.
//
//	fetch:   u64 first │ u64 last
//	entries: u64 first │ uvarint count │ { uvarint term │ u8 type │ uvarint length │ bytes } × count
//
// Integers are little endian. A peer that lacks any of the entries answers with none.
const (
	kindFetch   transport.Kind = 3
	kindEntries transport.Kind = 4
)

// mendBytesMax bounds the entries of one answer. A larger hole is left to raft, or to a snapshot.
const mendBytesMax = 32 << 20

// mender fills the hole in the log of one group before the group takes part in anything.
type mender struct {
	group  *Group
	damage *wal.DamageError
	mu     struct {
		sync.Mutex
		answers map[uint64][]*pb.Entry // by peer; empty = it cannot help
	}
	wake chan struct{}
}

func newMender(g *Group, damage *wal.DamageError) *mender {
	m := &mender{group: g, damage: damage, wake: make(chan struct{}, 1)}
	m.mu.answers = map[uint64][]*pb.Entry{}
	return m
}

// mend asks the peers until one fills the hole, or all of them say that they cannot: then what
// stands behind the hole is given up, and the group starts fenced.
func (m *mender) mend() error {
	g, n := m.group, m.group.node
	g.log.Warn("log damaged, asking peers for what is missing", "damage", m.damage)
	ticker := time.NewTicker(n.options.Tick)
	defer ticker.Stop()
	for {
		m.ask()
		select {
		case <-ticker.C:
		case <-m.wake:
		case <-n.stopping:
			return ErrClosed
		}
		answers := m.take()
		for peer, entries := range answers {
			if len(entries) == 0 {
				continue
			}
			err := n.onLog(func() error { return n.wal.Mend(g.id, entries) })
			if err == nil {
				g.log.Info("log mended", "from", peer, "first", entries[0].GetIndex(),
					"last", entries[len(entries)-1].GetIndex())
				return nil
			}
			if !errors.Is(err, wal.ErrInvalid) {
				return err
			}
			g.log.Warn("entries of a peer do not fit the hole", "from", peer, "err", err)
			m.answer(peer, nil)
		}
		if len(answers) == len(n.options.Members)-1 && m.nobodyHelps() {
			g.log.Warn("no peer has what is missing; the group starts fenced")
			return nil
		}
	}
}

// ask sends a request to every peer that has not answered.
func (m *mender) ask() {
	n := m.group.node
	payload := binary.LittleEndian.AppendUint64(nil, m.damage.FirstIndex)
	payload = binary.LittleEndian.AppendUint64(payload, m.damage.Resume)
	answers := m.take()
	for _, member := range n.options.Members {
		if _, ok := answers[member.ID]; ok || member.ID == n.options.ID {
			continue
		}
		// A peer that is not connected is asked again at the next tick.
		_ = n.transport.Send(member.ID, m.group.id, kindFetch, payload)
	}
}

func (m *mender) take() map[uint64][]*pb.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	answers := make(map[uint64][]*pb.Entry, len(m.mu.answers))
	for peer, entries := range m.mu.answers {
		answers[peer] = entries
	}
	return answers
}

func (m *mender) nobodyHelps() bool {
	for _, entries := range m.take() {
		if len(entries) > 0 {
			return false
		}
	}
	return true
}

func (m *mender) answer(peer uint64, entries []*pb.Entry) {
	m.mu.Lock()
	m.mu.answers[peer] = entries
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// handleMend takes a request for entries, or the answer to one.
func (g *Group) handleMend(from uint64, kind transport.Kind, payload []byte) error {
	if kind == kindFetch {
		return g.serveFetch(from, payload)
	}
	return g.takeEntries(from, payload)
}

// serveFetch answers a peer's request from this node's log. It reads the disk, so it runs beside the
// transport's reader.
func (g *Group) serveFetch(from uint64, payload []byte) error {
	d := decoder{payload}
	first, last := d.u64(), d.u64()
	if d.rest == nil || first > last {
		return errFrame
	}
	g.node.background.Go(func() {
		reply, err := encodeEntries(g.wal, first, last)
		if err != nil {
			g.log.Info("peer asks for entries that are not here", "from", from, "first", first,
				"last", last, "err", err)
			reply = binary.AppendUvarint(binary.LittleEndian.AppendUint64(nil, first), 0)
		}
		if err := g.node.transport.Send(from, g.id, kindEntries, reply); err != nil {
			g.log.Debug("entries not sent", "to", from, "err", err)
		}
	})
	return nil
}

func encodeEntries(log *wal.Group, first, last uint64) ([]byte, error) {
	var entries []*pb.Entry
	for next := first; next <= last; {
		run, err := log.Entries(next, last+1, mendBytesMax)
		if err != nil {
			return nil, err
		}
		entries = append(entries, run...)
		next += uint64(len(run))
	}
	b := binary.LittleEndian.AppendUint64(nil, first)
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for _, e := range entries {
		b = binary.AppendUvarint(b, e.GetTerm())
		b = append(b, byte(e.GetType()))
		b = binary.AppendUvarint(b, uint64(len(e.GetData())))
		b = append(b, e.GetData()...)
		if len(b) > mendBytesMax {
			return nil, fmt.Errorf("node: entries %d to %d exceed %d bytes", first, last,
				mendBytesMax)
		}
	}
	return b, nil
}

// takeEntries gives a peer's answer to the group's mender, if it still waits.
func (g *Group) takeEntries(from uint64, payload []byte) error {
	d := decoder{payload}
	first, count := d.u64(), d.uvarint()
	if d.rest == nil || count > uint64(len(payload)) {
		return errFrame
	}
	entries := make([]*pb.Entry, count)
	for i := range entries {
		term, kind, data := d.uvarint(), pb.EntryType(d.u8()), d.bytes()
		entries[i] = &pb.Entry{Index: new(first + uint64(i)), Term: &term, Type: &kind, Data: data}
	}
	if d.rest == nil {
		return errFrame
	}
	if m := g.mender.Load(); m != nil {
		m.answer(from, entries)
	}
	return nil
}
