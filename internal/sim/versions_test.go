package sim_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// Two versions side by side. There is one format of entries and of snapshots so far, so the later ones
// are made here: twins of encoders that a later release may have. What the present release makes of
// them is its own doing, and must be a refusal that names them.

// release is what a host runs. It is another one only behind a restart.
type release int

const (
	present    release = iota // reads and writes the present formats
	readsNext                 // reads the next ones too
	writesNext                // and writes them
)

// rollout is how a cluster gets from one release to the next.
type rollout int

const (
	noRollout   rollout = iota
	readFirst           // nobody writes what somebody cannot read yet
	writeAtOnce         // the next release writes its formats while the present one still runs
)

const (
	presentEntry, nextEntry       = 2, 3
	presentSnapshot, nextSnapshot = 1, 2
)

// toNextEntry gives the payload of an entry the next format, in which the clock is big endian: who
// takes it for the present one finds as many commands as there are, and another time.
func toNextEntry(data []byte) []byte { return reformat(data, presentEntry, nextEntry) }

func toPresentEntry(e *pb.Entry) *pb.Entry {
	if e.GetType() != pb.EntryNormal || len(e.GetData()) == 0 || e.GetData()[0] != nextEntry {
		return e
	}
	return &pb.Entry{Type: e.Type, Index: e.Index, Term: e.Term,
		Data: reformat(e.GetData(), nextEntry, presentEntry)}
}

func reformat(data []byte, from, to byte) []byte {
	if len(data) == 0 || data[0] != from {
		return data
	}
	data = slices.Clone(data)
	data[0] = to
	slices.Reverse(data[1:9])
	return data
}

// toNextSnapshot puts one more block in front of the others.
func toNextSnapshot(body []byte) []byte {
	return slices.Concat([]byte{nextSnapshot, 0, 0, 0, 0}, body[1:])
}

func toPresentSnapshot(body []byte) []byte {
	if body[0] != nextSnapshot {
		return body
	}
	return slices.Concat([]byte{presentSnapshot}, body[5:])
}

// writeNext has a leader of the release that writes the next format write it. Nobody but the leader of
// a term makes entries of that term, and what raft sends is what it appends.
func (g *group) writeNext(rd *replica.Ready) {
	s := g.core.Status()
	if g.p.h.release < writesNext || s.Role != raft.StateLeader {
		return
	}
	rewrite := func(entries []*pb.Entry) {
		for _, e := range entries {
			if e.GetTerm() == s.Term && e.GetType() == pb.EntryNormal {
				e.Data = toNextEntry(e.GetData())
			}
		}
	}
	if rd.Append != nil {
		rewrite(rd.Append.Entries)
	}
	for _, m := range rd.Messages {
		if m.GetType() == pb.MsgApp {
			rewrite(m.GetEntries())
		}
	}
}

// entry is an entry as the release of the host reads it.
func (h *host) entry(e *pb.Entry) *pb.Entry {
	if h.release < readsNext {
		return e
	}
	return toPresentEntry(e)
}

// body is that of a snapshot as the release of the host reads it.
func (h *host) body(s *snapshot) []byte {
	if h.release < readsNext {
		return s.body
	}
	return toPresentSnapshot(s.body)
}

func (h *host) writeBody(body []byte) []byte {
	if h.release < writesNext {
		return body
	}
	return toNextSnapshot(body)
}

// refusesNext reports whether an error is the one that is due: the present release has met what the
// next one has written, and says so.
func (h *host) refusesNext(err error) bool {
	if h.w.plan.config.rollout != writeAtOnce || h.release != present {
		return false
	}
	for i, formats := range [...][2]int{{nextEntry, presentEntry}, {nextSnapshot, presentSnapshot}} {
		if strings.Contains(err.Error(), fmt.Sprintf("format %d, this version reads format %d: "+
			"another version has written it", formats[0], formats[1])) {
			h.w.stats.refused[i]++
			h.note("refuses the next format", uint64(formats[0]))
			return true
		}
	}
	return false
}

// drawReleases has some hosts begin with the next release.
func (w *world) drawReleases() {
	if w.plan.config.rollout == noRollout {
		return
	}
	for _, h := range w.hosts {
		if w.rng.process.IntN(3) == 0 {
			h.upgrade()
		}
	}
}

// upgrade gives a host that is down the next release, if it is time for it.
func (h *host) upgrade() {
	behind := func(other *host) bool { return other.release == present && !other.lost }
	switch {
	case h.w.plan.config.rollout == noRollout || h.id == h.w.plan.config.laggard && !h.w.healed:
	case h.w.plan.config.rollout == writeAtOnce:
		h.release = writesNext
	case h.release == present:
		h.release = readsNext
	case !slices.ContainsFunc(h.w.hosts, behind):
		h.release = writesNext
	}
}

// injectUpgrade restarts a node with the next release.
func (h *host) injectUpgrade(lasts time.Duration, r *rand.Rand) {
	if r.IntN(4) == 0 {
		h.crash(false)
	} else {
		h.stop()
	}
	if h.proc == nil {
		h.upgrade()
		h.note("release", uint64(h.release))
	}
	h.start(lasts / 4)
}

// finishUpgrade leaves nobody with a release that cannot read what is written.
func (h *host) finishUpgrade() {
	if h.w.plan.config.rollout == noRollout || h.release != present {
		return
	}
	h.crash(false)
	h.upgrade()
}

// TestVersionsSideBySide holds that what is refused is refused for its format alone, in an entry and in
// a snapshot, that nobody refuses anything when all can read before anybody writes, and that in the end
// nothing is missing.
func TestVersionsSideBySide(t *testing.T) {
	var refused [2]int
	for seed := uint64(1); seed <= 30; seed++ {
		p := drawPlan(seed, 20*time.Second, faultUpgrade, faultChange, faultChange, faultOutage)
		r := simulate(t, seed, p, noMutant, nil)
		if r.violation != nil {
			t.Fatalf("seed %d: %v", seed, r.violation)
		}
		if p.config.rollout == readFirst && r.stats.refused != [2]int{} {
			t.Errorf("seed %d: %v refusals though all can read", seed, r.stats.refused)
		}
		for i, n := range r.stats.refused {
			refused[i] += n
		}
	}
	if slices.Contains(refused[:], 0) {
		t.Errorf("refused were %v entries and snapshots, want some of each", refused)
	}
	t.Logf("refused were %v entries and snapshots", refused)
}

// TestNextFormats holds the twins against the product's own decoders.
func TestNextFormats(t *testing.T) {
	data := make([]byte, 13)
	data[0], data[1] = presentEntry, 7
	if _, err := replica.Unpack(data); err != nil {
		t.Errorf("the present format of entries is another one: %v", err)
	}
	if _, err := replica.Unpack(toNextEntry(data)); err == nil {
		t.Error("the next format of entries is read")
	}
	normal := pb.EntryNormal
	if back := toPresentEntry(&pb.Entry{Type: &normal, Data: toNextEntry(data)}); !bytes.Equal(
		back.GetData(), data) {
		t.Errorf("%x comes back as %x", data, back.GetData())
	}
}
