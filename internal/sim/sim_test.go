package sim_test

import (
	"flag"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func idString(id uint64) string { return strconv.FormatUint(id, 10) }

// settings are the flags of the tests.
type settings struct {
	seeds   *int
	seed    *uint64
	seconds *int
	traces  *string
	faults  *string
	brief   *bool
	first   *bool
	mutant  *string
}

var flags = settings{
	seeds:   flag.Int("sim.seeds", 60, "how many seeds to run"),
	seed:    flag.Uint64("sim.seed", 1, "the first seed"),
	seconds: flag.Int("sim.seconds", 20, "virtual seconds with faults"),
	faults: flag.String("sim.faults", "", "kinds of faults, separated by commas, for three nodes; "+
		"default is a draw of all for one to seven"),
	first:  flag.Bool("sim.first", false, "end with the first violation, and only name it"),
	brief:  flag.Bool("sim.brief", false, "name violations only, do not look for what they need"),
	mutant: flag.String("sim.mutant", "", "run as for this source mutant, but without it"),
	traces: flag.String("sim.traces", "", "directory for traces; default is the test's own"),
}

// only is the kinds of faults that are asked for; nil means no wish.
func (s settings) only() (kinds []faultKind) {
	for k := range faultKinds {
		if slices.Contains(strings.Split(*s.faults, ","), k.String()) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// plan draws a plan as the flags wish it.
func (s settings) plan(t *testing.T, seed uint64) plan {
	if *s.mutant == "" {
		return drawPlan(seed, s.length(), s.only()...)
	}
	for _, m := range sourceMutants {
		if m.name == *s.mutant {
			return m.runs.draw(seed)
		}
	}
	t.Fatalf("there is no source mutant %q", *s.mutant)
	return plan{}
}

func (s settings) length() time.Duration { return time.Duration(*s.seconds) * time.Second }

// TestSeeds runs seeds, each with a cluster, a load and faults of its own.
func TestSeeds(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(1600)) // little is alive, much is made
	var virtual time.Duration
	var total stats
	began, elections, committed, events, hash := time.Now(), 0, 0, uint64(0), uint64(0)
	for seed := *flags.seed; seed < *flags.seed+uint64(*flags.seeds); seed++ {
		p := flags.plan(t, seed)
		r := simulate(t, seed, p, noMutant, nil)
		if r.violation != nil {
			if *flags.first {
				t.Fatalf("seed %d: %v", seed, r.violation)
			}
			if *flags.brief {
				t.Errorf("seed %d: %v", seed, r.violation)
				continue
			}
			report(t, seed, p, noMutant, r)
			if *flags.seeds <= 60 {
				return
			}
		}
		virtual += r.now
		elections += r.elections
		committed += r.committed
		events += r.events
		hash = mix(hash, r.hash)
		for k, n := range r.stats.faults {
			total.faults[k] += n
		}
		for k, n := range r.stats.outcomes {
			total.outcomes[k] += n
		}
		total.repeats += r.stats.repeats
		total.damages += r.stats.damages
		total.mended += r.stats.mended
		total.fenced += r.stats.fenced
		total.changes += r.stats.changes
		total.rests += r.stats.rests
		total.transfers += r.stats.transfers
	}
	took := time.Since(began).Seconds()
	t.Logf("%d seeds, %.0f virtual seconds in %.1f s (%.0f per second), %d events, %d elections, "+
		"%d entries, hash %x, %d damaged logs, %d mended, %d fenced, outcomes %v, %d repeats, "+
		"%d changes of members, %d transfers, %d rests, faults %v",
		*flags.seeds, virtual.Seconds(), took, virtual.Seconds()/took, events, elections, committed,
		hash, total.damages, total.mended, total.fenced, total.outcomes,
		total.repeats, total.changes, total.transfers, total.rests, total.faults)
}

// TestSameSeedSameRun runs a seed twice.
func TestSameSeedSameRun(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		p := drawPlan(seed, 10*time.Second)
		first := simulate(t, seed, p, noMutant, nil)
		second := simulate(t, seed, p, noMutant, nil)
		if first.hash != second.hash || first.events != second.events {
			t.Errorf("seed %d gives the hashes %x and %x, %d and %d events", seed, first.hash,
				second.hash, first.events, second.events)
		}
		if other := simulate(t, seed+100, p, noMutant, nil); other.hash == first.hash {
			t.Errorf("seeds %d and %d give the same run", seed, seed+100)
		}
	}
}
