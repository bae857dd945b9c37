package sim_test

import (
	"errors"
	"slices"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
	"github.com/connectraft/connect/wal"
)

// ready is one element of the Ready channel.
type ready struct {
	g       *group
	append  *replica.Append // nil = nothing
	unfence bool
	state   wal.State // written with it
}

// appender is the twin of node/appender.go. A write takes virtual time; the log is changed at its
// end, when wal.Append would return.
type appender struct {
	p         *process
	queue     []ready // the Ready channel
	batch     []ready
	updates   []wal.Update
	sync      bool
	work      []func() // upkeep
	begun     int64    // when the write under way began; -1 = none is
	waiting   bool     // for room on the disk
	scheduled bool

	runs, ends func() // run and end
}

func newAppender(p *process) *appender {
	a := &appender{p: p, begun: -1}
	a.runs, a.ends = a.run, a.end
	return a
}

func (a *appender) put(r ready) {
	a.queue = append(a.queue, r)
	a.kick()
}

func (a *appender) upkeep(work func()) {
	a.work = append(a.work, work)
	a.kick()
}

func (a *appender) kick() {
	if a.scheduled || a.begun >= 0 || a.p.failed != nil {
		return
	}
	a.scheduled = true
	a.p.after(a.p.w.between(time.Microsecond, 20*time.Microsecond), a.runs)
}

// run is appender.run: upkeep, or one batch out of the Ready channel.
func (a *appender) run() {
	a.scheduled = false
	if a.p.failed != nil {
		return
	}
	a.maintain()
	if a.waiting || len(a.queue) == 0 || a.p.failed != nil {
		return
	}
	n := min(len(a.queue), a.p.w.plan.config.readiesAtOnce)
	a.batch, a.queue = a.queue[:n:n], a.queue[n:]
	for range a.batch {
		a.p.read()
	}
	a.persist()
	a.early()
	if len(a.updates) == 0 {
		a.unfence()
		a.deliver()
		a.kick()
		return
	}
	a.begin()
}

// begin starts the write of the updates.
func (a *appender) begin() {
	h := a.p.h
	a.begun = a.p.w.now
	c := &a.p.w.plan.config
	took := a.p.w.between(c.diskMin, c.diskMax)
	if a.p.w.rng.process.IntN(100) == 0 {
		took *= 10
	}
	end := max(a.p.w.now, h.stalledUntil) + int64(took)
	a.p.after(time.Duration(end-a.p.w.now), a.ends)
}

// end is the return of wal.Append.
func (a *appender) end() {
	if until := a.p.h.stalledUntil; until > a.p.w.now {
		a.p.after(time.Duration(until-a.p.w.now), a.end)
		return
	}
	if a.p.h.dies(a) {
		return
	}
	err := a.write()
	a.begun = -1
	if errors.Is(err, wal.ErrDiskFull) {
		a.p.setDiskFull(true)
		a.waiting = true
		a.p.after(a.p.tickPeriod(), func() { // appender.append waits for room
			a.maintain()
			if a.p.failed == nil {
				a.begin()
			}
		})
		return
	}
	a.waiting = false
	a.p.setDiskFull(false)
	if err != nil {
		a.queue = nil // appender.drain
		a.p.fail(err)
		return
	}
	a.unfence()
	a.deliver()
	a.checkAll()
	a.kick()
}

// attempt is a write whose process dies before it can answer.
func (a *appender) attempt() { _ = a.write() }

func (a *appender) write() error {
	h := a.p.h
	h.files.appends++
	h.inFlight = a.batch
	if err := a.p.wal.Append(a.updates, a.sync); err != nil {
		return err
	}
	if a.sync {
		h.promiseBatch(a.batch)
	}
	h.inFlight = nil
	return nil
}

// close is the end of appender.run and Log.Close: what waits in the Ready channel is written, then
// the commit indexes that were not worth a write. Nothing is answered any more.
func (p *process) close() {
	p.appender.drain()
	if err := p.wal.Close(); err != nil {
		p.w.trace.say("n%d closes: %v", p.h.id, err)
	}
}

func (a *appender) drain() {
	if a.begun >= 0 && a.write() != nil {
		return // the log has failed, or the disk is full and waiting ends with the node
	}
	for len(a.queue) > 0 {
		n := min(len(a.queue), a.p.w.plan.config.readiesAtOnce)
		a.batch, a.queue = a.queue[:n:n], a.queue[n:]
		a.persist()
		if len(a.updates) > 0 && a.write() != nil {
			return
		}
	}
	a.finish()
}

// finish is appender.finish.
func (a *appender) finish() {
	var updates []wal.Update
	for _, g := range a.p.groups {
		if g.begun && g.hardState != g.wal.State() && g.hardState.Term != 0 {
			updates = append(updates, wal.Update{Group: g.id, State: new(g.hardState)})
		}
	}
	if len(updates) == 0 {
		return
	}
	if err := a.p.wal.Append(updates, true); err != nil {
		a.p.w.trace.say("n%d: commit index not written at the end: %v", a.p.h.id, err)
		return
	}
	a.p.h.promise(updates)
}

// persist is appender.persist up to the write.
func (a *appender) persist() {
	a.updates, a.sync = nil, false
	for i, r := range a.batch {
		if r.append == nil {
			continue
		}
		if s := r.append.State; s != nil {
			r.g.hardState = wal.State{Term: s.GetTerm(), Vote: s.GetVote(), Commit: s.GetCommit()}
		}
		if !r.append.Sync {
			continue
		}
		a.sync = true
		a.batch[i].state = r.g.hardState
		a.updates = append(a.updates, wal.Update{
			Group:   r.g.id,
			State:   new(r.g.hardState),
			Mark:    markOf(r.append.Snapshot),
			Entries: r.append.Entries,
		})
	}
	a.p.w.mutateUpdates(a)
}

func markOf(s *pb.Snapshot) *wal.Mark {
	if s == nil {
		return nil
	}
	m := s.GetMetadata()
	return &wal.Mark{Index: m.GetIndex(), Term: m.GetTerm(), ConfState: m.GetConfState()}
}

func (a *appender) maintain() {
	work := a.work
	a.work = nil
	for _, do := range work {
		do()
	}
}

// early is where broken variants answer before the log is durable.
func (a *appender) early() {
	if !a.p.w.is(respondBeforeSync) && !a.p.w.is(countBeforeSync) {
		return
	}
	for _, r := range a.batch {
		if r.append == nil {
			continue
		}
		own, others := a.split(r)
		if a.p.w.is(respondBeforeSync) {
			r.g.send(others)
			r.append.Responses = own
		}
		if a.p.w.is(countBeforeSync) && r.append.Snapshot == nil && r.g.restoring == 0 {
			for _, m := range own {
				if m.GetType() == pb.MsgAppResp {
					r.g.acknowledge([]*pb.Message{m}, 0)
				}
			}
		}
	}
}

func (a *appender) split(r ready) (own, others []*pb.Message) {
	isOwn := func(m *pb.Message) bool { return m.GetTo() == a.p.h.id }
	switch all := r.append.Responses; {
	case !slices.ContainsFunc(all, isOwn):
		return nil, all
	case len(all) == 1:
		return all, nil
	}
	for _, m := range r.append.Responses {
		if isOwn(m) {
			own = append(own, m)
		} else {
			others = append(others, m)
		}
	}
	return own, others
}

// unfence is appender.unfence.
func (a *appender) unfence() {
	for _, r := range a.batch {
		if r.unfence {
			a.lift(r.g)
		}
	}
}

func (a *appender) lift(g *group) {
	if a.p.failed != nil {
		return
	}
	err := a.p.wal.Unfence(g.id)
	switch {
	case err == nil:
		g.note("fence lifted")
		g.p.h.weak[g.id] = false
	case errors.Is(err, wal.ErrDiskFull):
		a.later(func() { a.lift(g) })
	default:
		a.p.fail(err)
	}
}

// later is appender.later.
func (a *appender) later(work func()) {
	a.p.after(a.p.tickPeriod(), func() { a.upkeep(work) })
}

// deliver is appender.deliver with Group.deliver.
func (a *appender) deliver() {
	for _, r := range a.batch {
		if r.append == nil {
			continue
		}
		g := r.g
		own, others := a.split(r)
		g.send(others)
		appended := 0
		if len(r.append.Entries) > 0 {
			appended = 1
		}
		if r.append.Snapshot != nil || g.restoring > 0 {
			if r.append.Snapshot != nil {
				g.restoring++
			}
			g.apply.put(applyTask{restore: r.append.Snapshot, acks: own, appended: appended})
			continue
		}
		if len(own) > 0 || appended > 0 {
			g.postAppended(own, appended)
		}
	}
	a.batch = nil
}

func (a *appender) checkAll() {
	for _, g := range a.p.groups {
		g.check()
	}
}

func (p *process) setDiskFull(full bool) {
	if p.diskFull != full {
		p.h.note("disk full", boolWord(full))
	}
	p.diskFull = full
}
