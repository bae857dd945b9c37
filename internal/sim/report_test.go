package sim_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// report tells of a failure: what was violated, how to see it again, the faults that it needs, and
// a file with everything that happened.
func report(t *testing.T, seed uint64, p plan, m mutant, r result) {
	t.Helper()
	short, last := minimise(t, seed, p, m, r)
	var needed strings.Builder
	for _, f := range short.faults {
		fmt.Fprintf(&needed, "\n\t%v", f)
	}
	t.Errorf("seed %d: %v\nagain: go test ./internal/sim -run 'TestSeeds$' -sim.seeds=1 -sim.seed=%d "+
		"-sim.seconds=%d -sim.faults='%s' -sim.mutant='%s'\n%d of %d faults are needed:%s\n"+
		"with these: %v\n"+
		"the whole run: %s\nwith these faults: %s", seed, r.violation, seed, *flags.seconds,
		*flags.faults, *flags.mutant, len(short.faults), len(p.faults), needed.String(), last.violation,
		writeTrace(t, fmt.Sprintf("seed%d.txt", seed), seed, p, m),
		writeTrace(t, fmt.Sprintf("seed%d-short.txt", seed), seed, short, m))
}

// writeTrace repeats a run and writes down what happens.
func writeTrace(t *testing.T, name string, seed uint64, p plan, m mutant) string {
	dir := t.ArtifactDir()
	if *flags.traces != "" {
		dir = *flags.traces
	}
	path := filepath.Join(dir, name)
	file, err := os.Create(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	out := bufio.NewWriter(file)
	defer out.Flush()
	fmt.Fprintf(out, "seed %d, %+v\n", seed, p.config)
	for _, f := range p.faults {
		fmt.Fprintln(out, f)
	}
	simulate(t, seed, p, m, out)
	return path
}

// runsToMinimise bounds how often a failing run is repeated to find the faults that it needs.
const runsToMinimise = 200

// minimise leaves out faults, halves first and then one by one, for as long as the same invariant
// is violated.
func minimise(t *testing.T, seed uint64, p plan, m mutant, r result) (plan, result) {
	runs := 0
	for size := (len(p.faults) + 1) / 2; size > 0; size /= 2 {
		for from := 0; from < len(p.faults) && runs < runsToMinimise; {
			less := p
			less.faults = slices.Delete(slices.Clone(p.faults), from, min(from+size, len(p.faults)))
			runs++
			again := simulate(t, seed, less, m, nil)
			if again.violation != nil && again.violation.invariant == r.violation.invariant {
				p, r = less, again
			} else {
				from += size
			}
		}
	}
	return p, r
}
