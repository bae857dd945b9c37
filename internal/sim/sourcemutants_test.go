package sim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sourceMutant is a fault of the product's own code: text of a file that is another one. It is
// compiled into a simulation of its own; the files stay as they are.
type sourceMutant struct {
	name  string
	edits []edit
	runs  shape
}

type edit struct{ file, from, to string }

// sourceMutants are those that the twins cannot play.
var sourceMutants = []sourceMutant{
	{"lease goes on during a transfer", []edit{
		{"internal/replica/transfer.go", "	r.reads.revoke()\n", ""},
		{"internal/replica/lease.go", " || status.LeadTransferee != raft.None ||\n" +
			"		r.forced == lease.term ||", " ||"}},
		under(faultMove).with(shortElections, leased(4, 20), pace(200, 300))},
	{"lease counted from the confirmation of its round", []edit{
		{"internal/replica/reads.go", "	ticks   int // since it began\n",
			"	ticks   int\n	now     int64\n"},
		{"internal/replica/reads.go", "	r.round.index = state.Index\n",
			"	r.round.index, r.round.began = state.Index, r.now\n"},
		{"internal/replica/ready.go", "	r.proposeChange()\n",
			"	r.reads.now = mono\n	r.proposeChange()\n"}},
		under(faultPause).with(shortElections, cluster(3, 0, 1), lateFrames, fastDisks,
			leased(8, 1), pace(300, 500))},
	{"promise to a leader forgotten over a restart", []edit{
		{"internal/replica/replica.go", "	silence := config.ElectionTicks\n", "	silence := 0\n"}},
		under(faultPartial).with(cluster(3, 0, 4), slowHeartbeats, load(1, 20, 100),
			pace(500, 500))},
	{"answer to another round of reads accepted", []edit{
		{"internal/replica/reads.go",
			"(state.RequestCtx) != r.round.id", "(state.RequestCtx) == 0"}},
		under(faultPartial, faultClog).with(shortElections, load(4, 80, 20), pace(300, 300))},
	{"round of any age is recent", []edit{
		{"internal/replica/reads.go", " && mono-r.confirmed.began <= int64(maxAge)", ""}},
		under(faultIsolate).with(shortElections, leased(4, 20), pace(500, 600))},
	{"only voter answers learners before it knows", []edit{
		{"internal/replica/replica.go", " || r.asksTooEarly(m)", ""}},
		under(faultChange, faultCrashAll).with(shortElections, cluster(1, 2, 4), slowDisks(20, 60),
			load(8, 80, 20), pace(500, 100))},
	{"change of members applied before it is committed", []edit{
		{"internal/replica/ready.go", "	r.members.noteChanges(a.Entries)\n",
			"	r.members.noteChanges(a.Entries)\n	for _, e := range a.Entries {\n" +
				"		if e.GetType() != pb.EntryNormal {\n			_, _ = r.applyChange(e)\n		}\n	}\n"}},
		under(faultChange, faultIsolate, faultKill)},
	{"change of members on any version", []edit{
		{"internal/replica/members.go", "v != 0 && v != m.version", "v != v"}},
		under(faultChange, faultKill, faultMove)},
	{"directory keeps members that left", []edit{
		{"internal/apply/directory.go", "!isMember(state, m.ID)", "m.ID > 1<<20"}},
		under(faultChange)},
	{"sessions missing in snapshots", []edit{
		{"internal/apply/snapshot.go", "	for one := s.sessions.oldest; one != nil; one = one.newer {\n" +
			"		b.add(one.appendTo)\n	}\n", ""},
		{"internal/apply/snapshot.go", "	for range count {\n", "	for range count - count {\n"}},
		under(faultOutage, faultKill, faultIsolate)},
	{"answers of sessions not kept", []edit{
		{"internal/apply/stage.go", "	s.sessions.keep(session, c.Sequence, answer)\n", ""}},
		under(faultIsolate, faultKill, faultClog)},
	{"transfer ends well whoever leads", []edit{
		{"internal/replica/transfer.go",
			"		end.Err = fmt.Errorf(\"%w: node %d leads\", ErrTransferFailed, leader)", ""}},
		under(faultMove, faultMove, faultClog).with(shortElections, load(1, 20, 100),
			pace(200, 300))},
	{"leader that is removed goes on", []edit{
		{"internal/replica/replica.go", "StepDownOnRemoval:           true",
			"StepDownOnRemoval:           false"},
		{"internal/replica/members.go", "!votes {", "!votes && false {"}},
		under(faultChange).with(cluster(3, 2, 2), load(1, 20, 200), pace(500, 500))},
	{"end of the log that nothing has synced kept", []edit{
		{"wal/resume.go", "place{segment: f.segment, offset: r.durable}",
			"place{segment: f.segment, offset: r.end}"}}, under(faultAgain)},
	{"torn end of the log sealed with it", []edit{
		{"wal/resume.go", "		end = cut.offset\n", "		end = previous.scan.size\n"}},
		under(faultAgain, faultRecovery)},
	{"torn end of the log not cut off", []edit{
		{"wal/resume.go", "r.super == nil || !r.super.clean || len(r.chain) == 0 ||",
			"len(r.chain) == 0 ||"},
		{"wal/resume.go", "r.super.segment == f.id && r.super.durable == r.end &&\n" +
			"		r.super.sequence == r.sequence && !r.more", "f.file.SyncData() == nil"}},
		under(faultLie, faultAgain).with(load(4, 20, 20), pace(500, 500))},
	{"segments go before what killed them is durable", []edit{
		{"wal/compact.go", "	if l.durable != l.active.end {\n		return\n	}\n	n := 0\n",
			"	n := 0\n"}},
		under(faultAgain).with(smallSnapshots, smallSegments, load(4, 20, 20), pace(300, 100))},
	{"replicated time goes back", []edit{
		{"internal/apply/stage.go", "max(s.at.Clock, entry.Clock)", "entry.Clock"}},
		under(faultJump)},
	{"overtaken by a snapshot told as overwritten", []edit{
		{"internal/replica/ready.go", "upTo(index), true,\n			errors.New(" +
			"\"replica: a snapshot took the place of the log\"))", "upTo(index), false, ErrOverwritten)"}},
		under(faultIsolate).with(shortElections, cluster(3, 0, 1), smallSnapshots, fastDisks, patient,
			load(16, 0, 50), pace(2000, 1000))},
	{"next format of entries taken for the present one", []edit{
		{"internal/replica/entry.go", "data[0] != entryFormat", "data[0] == 0"}},
		under(faultUpgrade, faultChange, faultKill)},
	{"next format of snapshots taken for the present one", []edit{
		{"internal/apply/snapshot.go", "format[0] != snapshotFormat", "format[0] == 0"}},
		under(faultUpgrade, faultChange, faultKill).with(atOnce, smallSnapshots,
			load(2, 20, 50), pace(500, 300))},
	{"removed node is needed and does not vote", []edit{
		{"internal/replica/ready.go", "		r.keepCommit(out)\n", ""},
		{"internal/replica/replica.go", "		r.silence--\n", ""}},
		under(faultChange, faultChange, faultChange, faultKill).with(shortElections,
			cluster(2, 2, 4), load(1, 20, 2000), pace(1000, 100), bursts(50))},
	{"votes asked for before the own one is durable", []edit{
		{"internal/replica/leaving.go", "	if m.GetType() == pb.MsgVote {\n		return true\n	}\n", ""}},
		under(faultKill).with(load(1, 20, 200))},
	{"commands behind a change that is not applied", []edit{
		{"internal/replica/ready.go", " &&\n			len(r.fresh) == 0 && !r.changing()", ""},
		{"internal/replica/leaving.go", "return len(entries) > 0 &&", "return false &&"}},
		under(faultChange, faultChange, faultChange, faultChange, faultChange, faultPower).with(
			elections(100, 10), cluster(2, 1, 4), fastDisks, slowDisks(50, 150), patient,
			load(8, 0, 20), pace(1000, 100), bursts(60))},
	{"answer to a poll told to raft", []edit{
		{"internal/replica/poll.go", "	m.Context = nil\n", ""}},
		under(faultChange).with(shortElections, load(4, 50, 20), pace(300, 300))},
}

// TestSourceMutantsAreCaught builds the simulation anew for each mutant.
func TestSourceMutantsAreCaught(t *testing.T) {
	for _, m := range sourceMutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel() // each is processes of its own
			m.catch(t)
		})
	}
}

var seedSaid = regexp.MustCompile(`seed (\d+): (.*)`)

func (m *sourceMutant) catch(t *testing.T) {
	binary := build(t, m.changed(t))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := m.seeds(ctx, binary, 1, catchSeeds)
	said := seedSaid.FindSubmatch(out)
	if err == nil || said == nil {
		t.Fatalf("no violation in %d seeds: %v\n%s", catchSeeds, err, out)
	}
	seed, _ := strconv.ParseUint(string(said[1]), 10, 64)
	if out, err := m.seeds(ctx, os.Args[0], seed, 1); err != nil {
		t.Fatalf("seed %d has a violation without the mutant: %v\n%s", seed, err, out)
	}
	t.Logf("caught by seed %s: %s", said[1], said[2])
}

// seeds runs TestSeeds of a simulation.
func (m *sourceMutant) seeds(ctx context.Context, binary string, first uint64, n int) ([]byte,
	error) {
	return exec.CommandContext(ctx, binary, "-test.run=^TestSeeds$", "-sim.first",
		fmt.Sprintf("-sim.seed=%d", first), fmt.Sprintf("-sim.seeds=%d", n),
		"-sim.mutant="+m.name).CombinedOutput()
}

// changed returns the files that the mutant changes, by path, as they are with it.
func (m *sourceMutant) changed(t *testing.T) map[string]string {
	t.Helper()
	changed := map[string]string{}
	for _, e := range m.edits {
		path, err := filepath.Abs(filepath.Join("..", "..", filepath.FromSlash(e.file)))
		if err != nil {
			t.Fatal(err)
		}
		text, ok := changed[path]
		if !ok {
			read, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text = string(read)
		}
		if n := strings.Count(text, e.from); n != 1 {
			t.Fatalf("%s has %d places like %q, want 1", e.file, n, e.from)
		}
		changed[path] = strings.Replace(text, e.from, e.to, 1)
	}
	return changed
}

// build compiles a simulation with other texts in the place of some files.
func build(t *testing.T, changed map[string]string) (binary string) {
	t.Helper()
	dir := t.TempDir()
	overlay := map[string]map[string]string{"Replace": {}}
	for path, text := range changed {
		file := filepath.Join(dir, fmt.Sprintf("%d.go", len(overlay["Replace"])))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay["Replace"][path] = file
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(dir, "sim.test")
	out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", file, "-o", binary,
		".").CombinedOutput()
	if err != nil {
		t.Fatalf("the mutant is not built: %v\n%s", err, out)
	}
	return binary
}
