package main_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/proctest"
)

// BenchmarkFailover measures the time from kill -9 of the leader to the first acknowledged write, at
// the default timeouts. A client on each survivor writes all the time and repeats what fails. Run it
// with -benchtime 50x for 50 kills.
func BenchmarkFailover(b *testing.B) {
	c := proctest.New(b, proctest.Build(b, "."), 3, "")
	c.StartAll()
	c.Ready(waitMax)
	var took []time.Duration
	for b.Loop() {
		took = append(took, failOver(b, c))
		c.StartAll()
		c.Ready(waitMax)
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op") // the restart is in it: not what is measured
	b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(took[(len(took)-1)*99/100].Milliseconds()), "p99-ms")
	b.ReportMetric(float64(took[len(took)-1].Milliseconds()), "max-ms")
}

// failOver kills the leader and returns when a survivor has acknowledged a write that was sent after.
func failOver(b *testing.B, c *proctest.Cluster) time.Duration {
	leader := c.AwaitLeader(waitMax)
	c.Kill(leader)
	began := time.Now()
	acknowledged := make(chan time.Duration, len(c.Nodes))
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		go func() {
			for time.Since(began) < 20*time.Second {
				if writes(n) {
					acknowledged <- time.Since(began)
					return
				}
			}
		}()
	}
	select {
	case took := <-acknowledged:
		return took
	case <-time.After(20 * time.Second):
		b.Fatal("no write was acknowledged within 20 s")
		return 0
	}
}

// writes sends one increment and reports whether it was acknowledged.
func writes(n *proctest.Node) bool {
	conn, err := proctest.Dial(n.Client)
	if err != nil {
		return false
	}
	defer conn.Close()
	reply, err := conn.Do("incr", 5*time.Second)
	return err == nil && strings.HasPrefix(reply, ":")
}
