package apply

import (
	"encoding/binary"
	"slices"

	"github.com/connectraft/connect/internal/replica"
)

// limits bound the sessions of a group. They decide which commands are applied, so they are the
// same on every replica: constants, not options.
type limits struct {
	sessions     int   // at most; the least recently used one goes
	idle         int64 // ns of replicated time after which an unused session expires
	window       int   // a sequence is at most so far beyond the acknowledged one
	sessionBytes int   // answers kept for a session: a new sequence is refused beyond this
	bytes        int   // answers kept for all sessions: the least recently used one goes
}

const hour = 3600e9

// SessionWindow is how far a sequence may be beyond the acknowledged one of its session.
const SessionWindow = 1024

func defaultLimits() limits {
	return limits{sessions: 4096, idle: hour, window: SessionWindow, sessionBytes: 1 << 20,
		bytes: 64 << 20}
}

// sessions is the table that makes commands apply exactly once. Every entry of the log finds the
// same table on every replica, and so does the decision which session expires.
type sessions struct {
	limits limits
	next   uint64 // the id of the next session; ids are never used twice
	byID   map[uint64]*session
	// oldest is the least recently used session, newest the most recently used one.
	oldest, newest *session
	bytes          int // answers kept
}

// session is what is known of the commands of one session.
type session struct {
	id    uint64
	used  int64  // replicated time of its last command, ns
	acked uint64 // the owner asks for nothing up to this sequence any more
	// answers are of the sequences from acked+1 on; nil is one that was not applied.
	answers      [][]byte
	bytes        int
	older, newer *session
}

func newSessions() *sessions {
	return &sessions{limits: defaultLimits(), next: 1, byID: map[uint64]*session{}}
}

// open makes a session and returns its id. The least recently used one goes when there are too
// many.
func (t *sessions) open(clock int64) uint64 {
	if len(t.byID) >= t.limits.sessions {
		t.remove(t.oldest)
	}
	s := &session{id: t.next, used: clock}
	t.next++
	t.add(s)
	return s.id
}

// add puts a session at the end of the most recently used.
func (t *sessions) add(s *session) {
	t.byID[s.id] = s
	t.bytes += s.bytes
	t.link(s)
}

func (t *sessions) link(s *session) {
	s.older, s.newer = t.newest, nil
	if t.newest == nil {
		t.oldest = s
	} else {
		t.newest.newer = s
	}
	t.newest = s
}

func (t *sessions) unlink(s *session) {
	if s.older == nil {
		t.oldest = s.newer
	} else {
		s.older.newer = s.newer
	}
	if s.newer == nil {
		t.newest = s.older
	} else {
		s.newer.older = s.older
	}
}

func (t *sessions) remove(s *session) {
	t.unlink(s)
	delete(t.byID, s.id)
	t.bytes -= s.bytes
}

func (t *sessions) close(id uint64) {
	if s := t.byID[id]; s != nil {
		t.remove(s)
	}
}

// expire removes the sessions that were not used for too long. It costs a comparison when there
// are none.
func (t *sessions) expire(clock int64) {
	for t.oldest != nil && clock-t.oldest.used > t.limits.idle {
		t.remove(t.oldest)
	}
}

// admit decides about a command of a session. A new one is to be applied and its answer given to
// keep; for a repeated one, answer is that of the first time.
func (t *sessions) admit(c *replica.Command, clock int64) (s *session, answer []byte, err error) {
	if s = t.byID[c.Session]; s == nil {
		return nil, nil, ErrSessionExpired
	}
	s.used = clock
	if t.newest != s {
		t.unlink(s)
		t.link(s)
	}
	t.acknowledge(s, c.Acked)
	if c.Sequence <= s.acked {
		return nil, nil, ErrSequenceTooOld
	}
	beyond := c.Sequence - s.acked - 1
	if beyond < uint64(len(s.answers)) && s.answers[beyond] != nil {
		return nil, s.answers[beyond], nil
	}
	// The first sequence is always taken: its answer is what the owner's acknowledgement waits for.
	if beyond >= uint64(t.limits.window) || beyond > 0 && s.bytes >= t.limits.sessionBytes {
		return nil, nil, ErrSessionFull
	}
	return s, nil, nil
}

// acknowledge forgets the answers up to a sequence.
func (t *sessions) acknowledge(s *session, acked uint64) {
	if acked <= s.acked {
		return
	}
	n := min(acked-s.acked, uint64(len(s.answers)))
	for i, answer := range s.answers[:n] {
		s.bytes -= len(answer)
		t.bytes -= len(answer)
		s.answers[i] = nil
	}
	if s.answers = s.answers[n:]; len(s.answers) == 0 {
		s.answers = nil
	}
	s.acked = acked
}

// keep notes a copy of the answer to a sequence that admit has let pass.
func (t *sessions) keep(s *session, sequence uint64, answer []byte) {
	i := int(sequence - s.acked - 1)
	for len(s.answers) <= i {
		s.answers = append(s.answers, nil)
	}
	s.answers[i] = append([]byte{}, answer...)
	s.bytes += len(answer)
	t.bytes += len(answer)
	for t.bytes > t.limits.bytes && t.oldest != s {
		t.remove(t.oldest)
	}
}

// appendHead appends what the sessions have in common.
func (t *sessions) appendHead(dst []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, t.next), uint64(len(t.byID)))
}

func (t *sessions) parseHead(src []byte) (count uint64, err error) {
	d := decoder{rest: src}
	t.next, count = d.uvarint(), d.uvarint()
	return count, d.end("head of the sessions")
}

// appendTo appends the encoding of a session: id, time of its last use, acknowledged sequence, and
// the answers behind it, each as its length plus one and its bytes; 0 is a sequence not applied.
func (s *session) appendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, s.id)
	dst = binary.AppendUvarint(dst, uint64(s.used))
	dst = binary.AppendUvarint(dst, s.acked)
	for _, answer := range s.answers {
		if answer == nil {
			dst = append(dst, 0)
			continue
		}
		dst = append(binary.AppendUvarint(dst, uint64(len(answer))+1), answer...)
	}
	return dst
}

func parseSession(src []byte) (*session, error) {
	d := decoder{rest: src}
	s := &session{id: d.uvarint(), used: int64(d.uvarint()), acked: d.uvarint()}
	for len(d.rest) > 0 {
		n := d.uvarint()
		if n == 0 {
			s.answers = append(s.answers, nil)
			continue
		}
		answer := append([]byte{}, d.take(n-1)...)
		s.answers = append(s.answers, answer)
		s.bytes += len(answer)
	}
	s.answers = slices.Clip(s.answers)
	return s, d.end("session")
}
