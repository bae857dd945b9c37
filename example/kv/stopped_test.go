package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/connectraft/connect/client"
	"github.com/connectraft/connect/internal/proctest"
)

var stopped = flag.Duration("stopped", 2*time.Second,
	"for how long TestStoppedFollower stops a follower")

// TestStoppedFollower stops a follower under full load, as a machine that hangs: its connections stand
// and take nothing. The leader keeps no more for it than its queues may hold, and when it goes on it
// catches up while the load does.
func TestStoppedFollower(t *testing.T) {
	const queueBytes = 2 * 64 << 20 // two lanes: transport.Options.QueueBytes
	c := proctest.New(t, proctest.Build(t, "."), 3, "")
	c.StartAll()
	c.Ready(time.Minute)
	leader := c.AwaitLeader(time.Minute)
	follower := c.Nodes[leader.ID%3]
	written := load(t, leader.Client)

	if err := follower.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began, before, most := time.Now(), written.Load(), int64(0)
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for time.Since(began) < *stopped {
		<-pace.C
		queue := queued(t, leader, follower.ID)
		most = max(most, queue)
		if queue > queueBytes {
			t.Fatalf("%d bytes wait for the stopped node, at most %d may", queue, queueBytes)
		}
	}
	during := written.Load() - before
	if during == 0 {
		t.Error("nothing was written while a follower stood")
	}
	target, _ := leader.Status()
	if err := follower.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	began, before = time.Now(), written.Load()
	proctest.Within(t, time.Minute, "the follower has what was written while it stood", func() bool {
		s, ok := follower.Status()
		return ok && s.Applied >= target.Applied
	})
	t.Logf("%d values written in %v beside the stopped node, at most %d bytes queued for it; it had "+
		"caught up %v later, after %d more values", during, *stopped, most,
		time.Since(began).Round(time.Millisecond), written.Load()-before)
}

// load writes values of 1 KiB from many goroutines until the test ends, and counts them.
func load(t *testing.T, address string) *atomic.Int64 {
	t.Helper()
	cl, err := client.Open(client.Options{Addresses: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	written, value := new(atomic.Int64), strings.Repeat("v", 1<<10)
	for i := range 64 {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("key %d %d", i, n%100)
				if _, err := cl.Write(ctx, client.Command("set", key, value)); err == nil {
					written.Add(1)
				}
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		writers.Wait()
		if err := cl.Close(); err != nil {
			t.Error(err)
		}
	})
	return written
}

// queued returns how many bytes wait on a node for a peer.
func queued(t *testing.T, n *proctest.Node, peer uint64) int64 {
	t.Helper()
	var s struct {
		Peers []struct {
			ID         uint64 `json:"id"`
			QueueBytes int64  `json:"queue_bytes"`
		} `json:"peers"`
	}
	code, body := n.Get("/v1/status")
	if code != 200 {
		return 0 // too busy to answer in time: asked again
	}
	if err := json.Unmarshal(body, &s); err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Peers {
		if p.ID == peer {
			return p.QueueBytes
		}
	}
	t.Fatalf("node %d knows nothing of node %d", n.ID, peer)
	return 0
}
