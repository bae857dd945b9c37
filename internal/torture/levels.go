package torture

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// level is how fresh a read of the binary protocol must be; package client defines the levels.
type level string

const (
	linearizable level = "" // of RESP, too
	leased       level = "lease"
	staleLevel   level = "stale"
	localLevel   level = "local" // stale at any age
	atLeast      level = "at least"
)

var levels = []level{linearizable, leased, staleLevel, localLevel, atLeast}

// weak says that a read of the level may be answered from the past.
func (l level) weak() bool { return l == staleLevel || l == localLevel || l == atLeast }

// Reads of every level are judged on the keys that are counters of sessions alone: since each
// increment is applied once and its answer is its place in their order, the value of a read says
// exactly which of them it reflects; a beacon may be further than what was acknowledged. All times are of one machine, on which clocks run at one
// speed, and begin before the node learns of the read, so nothing is allowed for.

// point is an increment, or several, with what must be seen from then on.
type point struct {
	at    int64 // a time, or an index
	value int64 // the largest so far
}

// rising sorts points by at and has each know the largest value up to it.
func rising(points []point) []point {
	slices.SortFunc(points, func(a, b point) int { return int(max(-1, min(1, a.at-b.at))) })
	most := int64(math.MinInt64)
	for i := range points {
		most = max(most, points[i].value)
		points[i].value = most
	}
	return points
}

// before returns the largest value of the points below a place, 0 if there are none.
func before(points []point, at int64) int64 {
	i, _ := slices.BinarySearchFunc(points, at, func(p point, at int64) int {
		return int(max(-1, min(1, p.at-at)))
	})
	if i == 0 {
		return 0
	}
	return points[i-1].value
}

// levelCheck is what reads of levels are held against.
type levelCheck struct {
	findings *findings
	indices  []point // of all writes in sessions: from when on which index is acknowledged
	reads    map[level]int
	behind   map[level]int // reads that did not reflect all that was acknowledged, as they may
}

func newLevelCheck(keys []*key, f *findings) *levelCheck {
	c := &levelCheck{findings: f, reads: map[level]int{}, behind: map[level]int{}}
	for _, k := range keys {
		for _, o := range k.history {
			if o.write() && o.Outcome == applied && o.Index > 0 {
				c.indices = append(c.indices, point{o.Return, o.Index})
			}
		}
	}
	c.indices = rising(c.indices)
	return c
}

// course is how a counter went.
type course struct {
	key     *key
	times   []point         // acknowledged increments by the time of that
	indices []point         // the same by the index of the log
	seen    []point         // what linearizable reads were answered with, by the time of that
	calls   map[int64]int64 // when an increment began, by its answer
}

func newCourse(k *key) *course {
	c := &course{key: k, calls: map[int64]int64{}}
	for _, o := range k.history {
		switch n := number(o.Value); {
		case o.Outcome != applied:
		case o.write():
			c.times = append(c.times, point{o.Return, n})
			if c.calls[n] = o.Call; o.Index > 0 {
				c.indices = append(c.indices, point{o.Index, n})
			}
		case !o.Level.weak():
			c.seen = append(c.seen, point{o.Return, n})
		}
	}
	c.times, c.indices, c.seen = rising(c.times), rising(c.indices), rising(c.seen)
	return c
}

// fresh is the least value that something linearizable that began at a time must find.
func (c *course) fresh(call int64) int64 { return max(before(c.times, call), before(c.seen, call)) }

// check judges a counter that only sessions or only beacons increment.
func (c *levelCheck) check(k *key) {
	went := newCourse(k)
	for _, o := range k.history {
		switch least := went.fresh(o.Call); {
		case o.Outcome != applied:
		case !o.write():
			c.checkRead(went, o)
		case number(o.Value) <= least:
			c.findings.violation("counter %s: an increment at %v made it %s, but it was at %d before",
				k.name, time.Duration(o.Call), o.Value, least)
		}
	}
}

func (c *levelCheck) checkRead(went *course, o operation) {
	n, least, since := number(o.Value), before(went.indices, o.Index+1), o.Call
	c.reads[o.Level]++
	if n < before(went.times, o.Call) {
		c.behind[o.Level]++
	}
	switch o.Level {
	case staleLevel:
		since -= o.Bound
	case localLevel:
		since = 0
	case atLeast:
		since, least = 0, max(least, before(went.indices, o.Bound+1))
		if o.Index < o.Bound {
			c.wrong(went.key, o, "the index %d", o.Index)
		}
	default:
		least = max(least, before(went.seen, o.Call))
	}
	if least = max(least, before(went.times, since)); n < least {
		c.wrong(went.key, o, "%d, which must be at least %d", n, least)
	}
	if call, known := went.calls[n]; known && call > o.Return {
		c.wrong(went.key, o, "%d, which was written later", n)
	}
	if acknowledged := before(c.indices, since); o.Index > 0 && o.Index < acknowledged {
		c.wrong(went.key, o, "the index %d when %d was acknowledged", o.Index, acknowledged)
	}
}

func (c *levelCheck) wrong(k *key, o operation, format string, args ...any) {
	name := string(o.Level)
	switch o.Level {
	case linearizable:
		name = "linearizable"
	case staleLevel:
		name += " by " + time.Duration(o.Bound).String()
	case atLeast:
		name += " " + strconv.FormatInt(o.Bound, 10)
	}
	args = append([]any{k.name, name, time.Duration(o.Call), o.Via}, args...)
	c.findings.violation("counter %s: a read (%s) at %v by %s was answered with "+format, args...)
}

// number reads a counter; one that is not there is at 0.
func number(value string) int64 {
	n, _ := strconv.ParseInt(value, 10, 64) // execute has looked at it
	return n
}

// levelReadsMin is how many reads of each level a run needs.
const levelReadsMin = 20

// checkLevels judges the reads of all exact keys, and tells how many there were.
func checkLevels(keys []*key, f *findings) string {
	c := newLevelCheck(keys, f)
	for _, k := range keys {
		if k.exact || k.beacon {
			c.check(k)
		}
	}
	var lines []string
	for _, l := range levels {
		name := cmp.Or(string(l), "linearizable")
		if c.reads[l] < levelReadsMin {
			f.doubt("%d reads (%s) were answered, want at least %d", c.reads[l], name, levelReadsMin)
		}
		lines = append(lines, fmt.Sprintf("%s %d (%d behind)", name, c.reads[l], c.behind[l]))
	}
	return strings.Join(lines, ", ")
}
