package torture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// Options say what to run. All fields are required.
type Options struct {
	Program  string        // the binary of example/kv
	Command  string        // the binary of cmd/connect
	Dir      string        // an empty directory for logs, data and artifacts
	Nodes    int           // 3 to 5
	Duration time.Duration // of the faults; the first round of them is finished in any case
	Seed     uint64        // of the schedule, the keys and the sizes in the configuration
	Out      io.Writer     // a line for each fault, and the summary
}

func (o Options) validate() error {
	var errs []error
	if o.Nodes < 3 || o.Nodes > 5 {
		errs = append(errs, fmt.Errorf("nodes = %d: want 3 to 5", o.Nodes))
	}
	if o.Duration < time.Second {
		errs = append(errs, fmt.Errorf("duration = %v: want at least 1s", o.Duration))
	}
	return errors.Join(errs...)
}

// run is the state of one run. Only its own goroutine uses it, except where a type says otherwise.
type run struct {
	options  Options
	random   *rand.Rand
	clock    clock
	cluster  *cluster
	operator *operator
	keys     *keyspace
	findings *findings

	happened map[string]int // faults seen to happen, by name
	compared bool           // the histories end with reads of every key from every node
	kills    []int64        // when nodes were killed

	directories map[uint64]uint64 // incarnations by id, as the cluster knew them last
	outlived    int               // writes in sessions that were under way at a kill
	levels      string            // what was read at which level
	failovers   []time.Duration
	recoveries  []time.Duration
	faulted     time.Duration // how long the faults went on, with the clients at work
}

// Run tortures a cluster. It returns when all processes have ended and nothing is mounted any more;
// on anything but Valid, Options.Dir holds the history, the logs and the data of the nodes. A
// cancelled ctx ends the run early, with Inconclusive.
func Run(ctx context.Context, o Options) (Verdict, error) {
	if err := o.validate(); err != nil {
		return Inconclusive, err
	}
	r := &run{options: o, random: rand.New(rand.NewPCG(o.Seed, 1)), clock: clock{time.Now()},
		keys: newKeyspace(rand.New(rand.NewPCG(o.Seed, 2))), findings: &findings{},
		happened: map[string]int{}, directories: map[uint64]uint64{}}
	var err error
	r.cluster, err = newCluster(o.Dir, o.Program, o.Nodes, r.random, r.findings)
	if err != nil {
		return Inconclusive, err
	}
	r.operator = &operator{r.cluster, o.Command, filepath.Join(o.Dir, "operator.log")}
	if err := r.torture(ctx); err != nil {
		r.findings.doubt("%v", err)
	}
	if ctx.Err() != nil {
		r.findings.doubt("%v", context.Cause(ctx))
	}
	for _, p := range r.cluster.places {
		p.signal(os.Kill)
	}
	r.judge()
	err = errors.Join(r.keep(), r.cluster.close())
	r.summary()
	return r.findings.verdict(), err
}

// torture starts the cluster, runs the faults with the clients at work, and compares the nodes
// before and after a last kill of all of them.
func (r *run) torture(ctx context.Context) error {
	c := r.cluster
	if err := c.startAll(); err != nil {
		return err
	}
	if err := c.awaitReady(ctx, settleTime); err != nil {
		return err
	}
	if err := within(ctx, 10*time.Second, c.checkBypass); err != nil {
		return err
	}
	w, err := startWorkload(ctx, c, r.clock, r.keys, r.findings)
	if err != nil {
		return err
	}
	err = errors.Join(r.faults(ctx), c.mend())
	w.end()
	if err := errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	if err := r.compare(ctx, "after the faults"); err != nil {
		return r.unsettled(ctx, err)
	}
	if err := within(ctx, 10*time.Second, c.checkBypass); err != nil {
		return err
	}
	for _, p := range c.nodes {
		p.signal(os.Kill)
	}
	for _, p := range c.nodes {
		p.kill()
	}
	if err := c.startAll(); err != nil {
		return err
	}
	if err := r.compare(ctx, "after a kill of all"); err != nil {
		return r.unsettled(ctx, err)
	}
	return r.terminateAll()
}

// unsettled notes that the cluster did not come to rest although nothing disturbed it.
func (r *run) unsettled(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		r.findings.violation("%v", err)
	}
	return nil
}

// terminateAll ends all nodes with SIGTERM at once, which each must survive to an orderly end.
func (r *run) terminateAll() error {
	var gone []<-chan struct{}
	for _, p := range r.cluster.nodes {
		gone = append(gone, p.terminate())
	}
	for i, p := range r.cluster.nodes {
		r.awaitEnd(p, gone[i])
	}
	return nil
}

// awaitEnd waits for a node that was sent SIGTERM.
func (r *run) awaitEnd(p *process, gone <-chan struct{}) {
	const limit = 30 * time.Second
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-gone:
		if code := p.exitCode(); code != 0 {
			r.findings.violation("node %d ended with exit code %d after SIGTERM", p.id(), code)
		}
	case <-timer.C:
		r.findings.violation("node %d has not ended %v after SIGTERM", p.id(), limit)
		p.kill()
	}
}
