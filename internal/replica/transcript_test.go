package replica_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/connectraft/connect/internal/replica"
)

// TestTranscripts plays the scripts in testdata, which are meant to be read: each directive does
// something to a core or carries effects, and what the cores want done stands below it. After a
// change that is meant, regenerate them with
//
//	go test ./internal/replica -run TestTranscripts -rewrite
//
// and review the difference.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		cryptotest.SetGlobalRandom(t, 1) // raft's random election timeouts
		s := newScript(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t = t
			return s.run(d)
		})
	})
}

// script is a cluster whose effects are carried on command and written down.
type script struct {
	*cluster
	out     strings.Builder
	verbose bool // appends, and messages when they arrive, too
	sends   bool // messages when they leave
	appends map[uint64][]*replica.Append
	applies map[uint64][]*replica.Apply

	commands map[string]*command
	reading  map[replica.Read]string
	asked    map[replica.Change]string
}

func newScript(t *testing.T) *script {
	s := &script{cluster: newCluster(t), appends: map[uint64][]*replica.Append{},
		applies: map[uint64][]*replica.Apply{}, commands: map[string]*command{},
		reading: map[replica.Read]string{}, asked: map[replica.Change]string{}}
	s.cores, s.stores = map[uint64]*replica.Replica{}, map[uint64]*raft.MemoryStorage{}
	return s
}

// run carries one directive out and returns what it led to.
func (s *script) run(d *datadriven.TestData) string {
	s.out.Reset()
	s.verbose, s.sends = d.HasArg("messages"), false
	directives := map[string]func(*datadriven.TestData){
		"begin": s.doBegin, "restart": s.doRestart, "campaign": s.doCampaign, "tick": s.doTick,
		"propose": s.doPropose, "withdraw": s.doWithdraw, "read": s.doRead, "clock": s.doClock,
		"change": s.doChange, "transfer": s.doTransfer, "hand-over": s.doHandOver,
		"step": s.doStep, "cut": s.doCut, "join": s.doJoin, "ready": s.doReady,
		"durable": s.doDurable, "applied": s.doApplied, "settle": s.doSettle,
		"status": s.doStatus, "progress": s.doProgress, "unreachable": s.doUnreachable,
		"snapshot": s.doSnapshot, "sweep": s.doSweep, "elect": s.doElect, "lose": s.doLose,
	}
	do := directives[d.Cmd]
	if do == nil {
		d.Fatalf(s.t, "unknown directive %s", d.Cmd)
	}
	do(d)
	if s.out.Len() == 0 {
		return "ok\n"
	}
	return s.out.String()
}

func (s *script) say(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (s *script) sayError(err error) {
	if err != nil {
		s.say("refused: %v", err)
	}
}

// node is the node that a directive is about: its first argument.
func (s *script) node(d *datadriven.TestData) (uint64, *replica.Replica) {
	id, err := strconv.ParseUint(d.CmdArgs[0].Key, 10, 64)
	if err != nil || s.cores[id] == nil {
		d.Fatalf(s.t, "no node %s", d.CmdArgs[0].Key)
	}
	return id, s.cores[id]
}

func number(d *datadriven.TestData, t *testing.T, key string, otherwise uint64) uint64 {
	d.MaybeScanArgs(t, key, &otherwise)
	return otherwise
}

// words are the arguments of a directive behind the node that have no value.
func words(d *datadriven.TestData) (list []string) {
	for _, a := range d.CmdArgs[1:] {
		if len(a.Vals) == 0 && a.Key != "messages" {
			list = append(list, a.Key)
		}
	}
	return list
}

// doBegin starts nodes: begin 1 2 3, or begin 4 empty for one that is to be added.
func (s *script) doBegin(d *datadriven.TestData) {
	var ids []uint64
	for _, a := range d.CmdArgs {
		if id, err := strconv.ParseUint(a.Key, 10, 64); err == nil {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		if d.HasArg("empty") {
			s.begin(id)
		} else {
			s.begin(id, ids...)
		}
	}
}

// doRestart gives a node a new core on what is durable there.
func (s *script) doRestart(d *datadriven.TestData) {
	id, _ := s.node(d)
	s.appends[id], s.applies[id] = nil, nil
	s.cluster.restart(id)
}

// doLose takes the end of a node's log away: lose 3 last=1.
func (s *script) doLose(d *datadriven.TestData) {
	id, _ := s.node(d)
	s.appends[id], s.applies[id] = nil, nil
	s.cluster.lose(id, number(d, s.t, "last", 1))
}

func (s *script) doCampaign(d *datadriven.TestData) {
	_, core := s.node(d)
	s.sayError(core.Campaign())
}

// doElect makes a node the leader: every node that is connected waits out its promise first. What
// leads to it is left out.
func (s *script) doElect(d *datadriven.TestData) {
	id, core := s.node(d)
	for range 30 {
		if core.Campaign() == nil {
			break
		}
		for _, other := range slices.Sorted(maps.Keys(s.cores)) {
			if other != id && !s.cut[other] {
				s.cores[other].Tick()
			}
		}
		core.Tick()
	}
	s.carryAll()
	if core.Status().Leader != id {
		d.Fatalf(s.t, "not elected: %+v", core.Status())
	}
	lines := strings.SplitAfter(s.out.String(), "\n")
	s.out.Reset()
	for _, line := range lines {
		if !strings.Contains(line, " asks whether ") && !strings.Contains(line, " stands for ") &&
			!strings.Contains(line, " follows nobody ") {
			s.out.WriteString(line)
		}
	}
}

// doTick ticks a node, or all: tick 1 times=3, tick all. With settle effects are carried after each.
func (s *script) doTick(d *datadriven.TestData) {
	ids := slices.Sorted(maps.Keys(s.cores))
	if d.CmdArgs[0].Key != "all" {
		id, _ := s.node(d)
		ids = []uint64{id}
	}
	for range number(d, s.t, "times", 1) {
		for _, id := range ids {
			s.cores[id].Tick()
		}
		if d.HasArg("settle") {
			s.carryAll()
		}
	}
}

// doPropose queues commands: propose 1 a b, propose 2 c forwarded.
func (s *script) doPropose(d *datadriven.TestData) {
	_, core := s.node(d)
	var list []*command
	for _, name := range words(d) {
		if name != "forwarded" {
			s.commands[name] = &command{data: name, local: d.HasArg("forwarded")}
			list = append(list, s.commands[name])
		}
	}
	core.Propose(proposals(list...))
}

// doWithdraw has the waiter of a command leave.
func (s *script) doWithdraw(d *datadriven.TestData) {
	for _, a := range d.CmdArgs {
		s.commands[a.Key].withdrawn = true
	}
}

// doRead queues reads: read 1 r1 r2, read 1 r3 lease, read 1 r4 max-age=1s.
func (s *script) doRead(d *datadriven.TestData) {
	_, core := s.node(d)
	var freshness replica.Freshness
	if d.HasArg("max-age") {
		var text string
		d.ScanArgs(s.t, "max-age", &text)
		age, err := time.ParseDuration(text)
		must(s.t, err)
		freshness.MaxAge = age
	}
	freshness.Leased = d.HasArg("lease")
	var list []replica.Read
	for _, name := range words(d) {
		if name != "lease" {
			r := &read{freshness: freshness}
			s.reading[r] = name
			list = append(list, r)
		}
	}
	core.Read(list)
}

// doClock lets time pass on the monotonic clocks of all nodes: clock 100ms.
func (s *script) doClock(d *datadriven.TestData) {
	passed, err := time.ParseDuration(d.CmdArgs[0].Key)
	must(s.t, err)
	s.mono += int64(passed)
}

// doChange asks for a change of the membership: change 1 v4 r2 version=3.
func (s *script) doChange(d *datadriven.TestData) {
	_, core := s.node(d)
	c := &change{what: strings.Join(words(d), " "), version: number(d, s.t, "version", 0)}
	s.asked[c] = c.what
	core.ChangeMembers(c)
}

func (s *script) doTransfer(d *datadriven.TestData) {
	_, core := s.node(d)
	s.sayError(core.Transfer(number(d, s.t, "to", 0)))
}

func (s *script) doHandOver(d *datadriven.TestData) {
	_, core := s.node(d)
	s.say("to %d", core.HandOver())
}

func (s *script) doCut(d *datadriven.TestData)  { s.cut[number(d, s.t, "node", 0)] = true }
func (s *script) doJoin(d *datadriven.TestData) { delete(s.cut, number(d, s.t, "node", 0)) }

func (s *script) doUnreachable(d *datadriven.TestData) {
	_, core := s.node(d)
	core.Unreachable(number(d, s.t, "peer", 0))
}

// doSnapshot ends the transfer of a snapshot: snapshot 1 to=4, snapshot 1 to=4 failed; or cuts one and
// truncates the log: snapshot 1 cut.
func (s *script) doSnapshot(d *datadriven.TestData) {
	id, core := s.node(d)
	if d.HasArg("cut") {
		_, err := s.stores[id].CreateSnapshot(core.Status().Commit, core.Members(), nil)
		must(s.t, err)
		must(s.t, s.stores[id].Compact(core.Status().Commit))
		return
	}
	var err error
	if d.HasArg("failed") {
		err = fmt.Errorf("as asked")
	}
	core.SnapshotSent(number(d, s.t, "to", 0), err)
}

func (s *script) doSweep(d *datadriven.TestData) {
	_, core := s.node(d)
	left, _ := core.Sweep()
	s.say("left: %s", commandNames(left))
}

// doReady takes one Ready of a node, and holds its append and its entries back until durable and
// applied say that they are done.
func (s *script) doReady(d *datadriven.TestData) {
	id, core := s.node(d)
	s.verbose, s.sends = true, true
	if !core.HasReady() {
		s.say("nothing to do")
		return
	}
	s.hold(id, core.Ready(0, s.mono))
}

func (s *script) doDurable(d *datadriven.TestData) {
	id, _ := s.node(d)
	s.makeDurable(id)
}

func (s *script) doApplied(d *datadriven.TestData) {
	id, _ := s.node(d)
	s.makeApplied(id)
}

func (s *script) doSettle(*datadriven.TestData) { s.carryAll() }

// hold writes a Ready down and queues its parts at their stages.
func (s *script) hold(id uint64, rd replica.Ready) {
	s.write(id, rd)
	s.network = append(s.network, rd.Messages...)
	if rd.Append != nil {
		s.appends[id] = append(s.appends[id], rd.Append)
	}
	if rd.Apply != nil {
		s.applies[id] = append(s.applies[id], rd.Apply)
	}
}

func (s *script) makeDurable(id uint64) {
	for _, a := range s.appends[id] {
		s.persist(id, a)
		for _, m := range a.Responses {
			if m.GetTo() == id {
				s.cores[id].Ack(m)
			} else {
				s.network = append(s.network, m)
			}
		}
		if len(a.Entries) > 0 {
			s.cores[id].Appended()
		}
	}
	s.appends[id] = nil
}

func (s *script) makeApplied(id uint64) {
	for _, a := range s.applies[id] {
		for _, m := range a.Members {
			_, err := s.stores[id].CreateSnapshot(m.Index, m.ConfState, nil)
			must(s.t, err)
		}
		for _, m := range a.Done {
			s.cores[id].Ack(m)
		}
	}
	s.applies[id] = nil
}

// carryAll carries effects until nothing moves and nothing is held back: stages first, then messages in
// their order.
func (s *script) carryAll() {
	for range 1000 {
		moved := false
		for _, id := range slices.Sorted(maps.Keys(s.cores)) {
			moved = moved || len(s.appends[id])+len(s.applies[id]) > 0
			s.makeDurable(id)
			s.makeApplied(id)
			for s.cores[id].HasReady() {
				moved = true
				s.hold(id, s.cores[id].Ready(0, s.mono))
			}
		}
		messages := s.network
		s.network = nil
		for _, m := range messages {
			moved = true
			s.deliver(m)
		}
		if !moved && !s.flush() {
			return
		}
	}
	s.t.Fatal("the cluster does not come to rest")
}

// flush lets the cores send what they hold back and reports whether there was anything.
func (s *script) flush() (held bool) {
	for _, core := range s.cores {
		held = held || core.Holding()
		core.Flush()
	}
	return held
}

func (s *script) deliver(m *pb.Message) {
	from, to := m.GetFrom(), m.GetTo()
	if s.verbose {
		lost := ""
		if s.cut[from] || s.cut[to] {
			lost = " (lost)"
		}
		s.say("%d>%d %s%s", from, to, describe(m), lost)
	}
	if s.cores[to] == nil || s.cut[from] || s.cut[to] {
		return
	}
	if err := s.cores[to].Step(from, m); err != nil {
		s.say("%d refused: %v", to, err)
	}
}

func commandNames(list []replica.Proposal) string {
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = p.(*command).data
	}
	return strings.Join(names, " ")
}
