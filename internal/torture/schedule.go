package torture

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// nemesis is a kind of fault.
type nemesis struct {
	name string
	// strike does it and returns what it did. An error that matches errNot says why the fault did
	// not happen as the name promises. What it leaves broken is mended afterwards.
	strike func(r *run, ctx context.Context) (detail string, err error)
}

// errNot means that a fault did not happen, which is nobody's mistake: it is tried again.
var errNot = errors.New("did not happen")

func not(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errNot, fmt.Sprintf(format, args...))
}

// nemeses returns the faults that have to happen in every run.
func (r *run) nemeses() []nemesis {
	list := []nemesis{
		{"kill-one", (*run).killOne},
		{"kill-minority", (*run).killMinority},
		{"kill-leader", (*run).killLeader},
		{"kill-all", (*run).killAll},
		{"pause", (*run).pauseSome},
		{"pause-leader", (*run).pauseLeader},
		{"pause-all", (*run).pauseAll},
		{"term", (*run).terminateOne},
		{"leader-in-minority", (*run).isolateLeader},
		{"leader-in-majority", (*run).isolateFollowers},
		{"leader-mute", (*run).muteLeader},
		{"leader-deaf", (*run).deafenLeader},
		{"one-way", (*run).cutOneWay},
		{"delay", (*run).delaySome},
		{"corrupt", (*run).corruptSome},
		{"storm", (*run).storm},
		{"wipe", (*run).wipeOne},
		{"churn", (*run).churn},
		{"transfer", (*run).transferLeader},
		{"drain", (*run).drainLeader},
	}
	if r.cluster.disks.reason == "" {
		list = append(list, nemesis{"full-disk", (*run).fillDisk})
	} else {
		fmt.Fprintf(r.options.Out, "full-disk is left out: %s\n", r.cluster.disks.reason)
	}
	return list
}

const (
	// unavailableMax is how long the cluster may be without service although a majority is whole.
	unavailableMax = 30 * time.Second
	// overtime is how long the first round may go on after the end of the duration.
	overtime = 90 * time.Second
)

// faults runs every nemesis once, in an order drawn from the seed, and then any of them until the
// duration is over.
func (r *run) faults(ctx context.Context) error {
	began := time.Now()
	defer func() { r.faulted = time.Since(began) }()
	list := r.nemeses()
	todo := slices.Clone(list)
	r.random.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	for ctx.Err() == nil {
		var next nemesis
		elapsed := time.Since(began)
		switch {
		case len(todo) > 0 && elapsed < r.options.Duration+overtime:
			next, todo = todo[0], todo[1:]
		case elapsed < r.options.Duration:
			next = list[r.random.IntN(len(list))]
		default:
			r.missing(list)
			return nil
		}
		if err := r.one(ctx, next); err != nil {
			return err
		}
		if r.happened[next.name] == 0 {
			todo = append(todo, next)
		}
		if violations, _ := r.findings.lists(); len(violations) > 0 {
			return nil
		}
		sleep(ctx, r.between(100*time.Millisecond, 500*time.Millisecond))
	}
	return nil
}

func (r *run) missing(list []nemesis) {
	for _, n := range list {
		if r.happened[n.name] == 0 {
			r.findings.doubt("%s did not happen", n.name)
		}
	}
}

// one has one fault happen, mends it and waits until the cluster serves again.
func (r *run) one(ctx context.Context, n nemesis) error {
	began := r.clock.now()
	okBefore, _, openBefore := r.keys.counts()
	detail, err := n.strike(r, ctx)
	switch {
	case errors.Is(err, errNot):
		detail = strings.TrimSpace(detail + " " + err.Error())
	case err != nil:
		return fmt.Errorf("%s: %w", n.name, err)
	default:
		r.happened[n.name]++
	}
	if err := r.cluster.mend(); err != nil {
		return fmt.Errorf("after %s: %w", n.name, err)
	}
	healed := r.clock.now()
	r.keys.rotate()
	recovery, err := r.recovered(ctx, healed)
	if err != nil && ctx.Err() == nil {
		r.findings.violation("after %s: %v", n.name, err)
	}
	ok, _, open := r.keys.counts()
	fmt.Fprintf(r.options.Out, "%6.1fs %-18s %s; %s, serving %s after it, %d ok, %d unknown\n",
		seconds(began), n.name, detail, round(time.Duration(healed-began)), round(recovery),
		ok-okBefore, open-openBefore)
	return nil
}

// recovered waits until all nodes are ready and a write that was begun after the healing is
// acknowledged. It returns how long that took.
func (r *run) recovered(ctx context.Context, healed int64) (time.Duration, error) {
	if err := r.cluster.awaitReady(ctx, settleTime); err != nil {
		return 0, err
	}
	ready := r.clock.now()
	write, err := r.awaitWrite(ctx, healed)
	took := max(write, time.Duration(ready-healed))
	if err == nil {
		r.recoveries = append(r.recoveries, took)
		_ = r.registered(ctx) // it notes what must not be; the rest comes with time
	}
	return took, err
}

// awaitWrite waits for the acknowledgement of a write that was begun since the given time, and
// returns when that was, counted from it.
func (r *run) awaitWrite(ctx context.Context, since int64) (took time.Duration, _ error) {
	err := within(ctx, unavailableMax, func() error {
		at, ok := r.keys.firstWrite(since)
		if !ok {
			return errors.New("no write is acknowledged")
		}
		took = time.Duration(at - since)
		return nil
	})
	return took, err
}

// between draws a duration of which small ones are as likely as large ones.
func (r *run) between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	ratio := float64(most) / float64(least)
	return time.Duration(float64(least) * math.Pow(ratio, r.random.Float64()))
}

// long draws how long a fault goes on: up to 10 s, and less in a short run, so that every fault has
// its turn.
func (r *run) long(least time.Duration) time.Duration {
	return r.between(least, min(10*time.Second, max(2*time.Second, r.options.Duration/12)))
}

func seconds(t int64) float64 { return time.Duration(t).Seconds() }

func round(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }
