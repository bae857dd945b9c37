package torture

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// rateMin is how many operations a second must have succeeded, on average, for a run to count.
const rateMin = 20

// judge looks at everything that the run has left.
func (r *run) judge() {
	for _, p := range r.cluster.places {
		p.kill()
		r.scan(p)
	}
	checkHistories(r.keys.all(), r.compared, r.options.Dir, r.findings)
	r.levels = checkLevels(r.keys.all(), r.findings)
	if r.outlived = outlived(r.keys.all(), r.kills); r.outlived == 0 {
		r.findings.doubt("no write in a session was under way when a node was killed")
	}
	ok, _, _ := r.keys.counts()
	if rate := float64(ok) / max(r.faulted.Seconds(), 1); rate < rateMin {
		r.findings.doubt("%.1f operations a second succeeded, want at least %d", rate, rateMin)
	}
}

// outlived counts the writes in sessions that were under way at one of the times and were
// acknowledged.
func outlived(keys []*key, times []int64) (count int) {
	for _, k := range keys {
		for _, o := range k.history {
			over := func(at int64) bool { return o.Call < at && at < o.Return }
			if o.Via == viaSession && o.write() && o.Outcome == applied && slices.ContainsFunc(times, over) {
				count++
			}
		}
	}
	return count
}

// scan looks for what must not stand in the log of a node. The faults of a run damage no disk.
func (r *run) scan(p *process) {
	f, err := os.Open(p.log)
	if errors.Is(err, os.ErrNotExist) {
		return // no node ever had the place
	}
	if err != nil {
		r.findings.doubt("%v", err)
		return
	}
	defer f.Close()
	marks := []string{"panic: ", "fatal error: ", "DATA RACE", "panicked", "damage found",
		"group is damaged", "snapshot is damaged", "log is poisoned"}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		for _, mark := range marks {
			if strings.Contains(lines.Text(), mark) {
				r.findings.violation("node %d says: %s", p.id(), lines.Text())
			}
		}
	}
	if err := lines.Err(); err != nil {
		r.findings.doubt("log of node %d: %v", p.id(), err)
	}
}

// keep writes the history and copies the data out of what is unmounted, unless the run is valid.
func (r *run) keep() error {
	if r.findings.verdict() == Valid {
		return nil
	}
	f, err := os.Create(filepath.Join(r.options.Dir, "history.jsonl"))
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for _, k := range r.keys.all() {
		for _, o := range k.history {
			_, _ = w.Write(o.line()) // Flush returns its error
		}
	}
	errs := []error{w.Flush(), f.Close()}
	if len(r.cluster.disks.mounted) > 0 {
		errs = append(errs, r.cluster.disks.empty())
		for _, p := range r.cluster.places {
			kept := filepath.Join(r.options.Dir, fmt.Sprintf("data%d", p.number+1))
			if _, err := os.Stat(p.dir); err == nil {
				errs = append(errs, os.CopyFS(kept, os.DirFS(p.dir)))
			}
		}
	}
	return errors.Join(errs...)
}

// summary prints what the run was, what it found, and how to have it again.
func (r *run) summary() {
	o := r.options
	ok, definite, open := r.keys.counts()
	fmt.Fprintf(o.Out, "\n%d nodes, %d clients, %d keys; %d operations ok, %d not applied, %d unknown, "+
		"%.0f ok a second\n", o.Nodes, clientsPerNode*o.Nodes, len(r.keys.all()), ok, definite, open,
		float64(ok)/max(r.faulted.Seconds(), 1))
	fmt.Fprintf(o.Out, "%d writes in sessions outlived the kill of a node; reads by their level: %s\n",
		r.outlived, r.levels)
	fmt.Fprintf(o.Out, "from the kill of a leader to the next write: %s\n", quantiles(r.failovers))
	fmt.Fprintf(o.Out, "from the end of a fault to full service: %s\n", quantiles(r.recoveries))
	violations, doubts := r.findings.lists()
	for _, v := range violations {
		fmt.Fprintf(o.Out, "VIOLATION: %s\n", v)
	}
	for _, d := range doubts {
		fmt.Fprintf(o.Out, "not conclusive: %s\n", d)
	}
	verdict := r.findings.verdict()
	if verdict != Valid {
		fmt.Fprintf(o.Out, "history, logs and data are in %s\n", o.Dir)
	}
	fmt.Fprintf(o.Out, "%v: scripts/torture.sh -seed %d -nodes %d -duration %v\n", verdict, o.Seed,
		o.Nodes, o.Duration)
}

func quantiles(durations []time.Duration) string {
	if len(durations) == 0 {
		return "not measured"
	}
	sorted := slices.Sorted(slices.Values(durations))
	at := func(q float64) time.Duration { return round(sorted[int(q*float64(len(sorted)-1)+0.5)]) }
	return fmt.Sprintf("p50 %v, p99 %v, of %d", at(0.5), at(0.99), len(sorted))
}
