package main_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/connectraft/connect/client"
	"github.com/connectraft/connect/internal/proctest"
)

// TestSessionIsExactlyOnceThroughKills increments in one session from several goroutines while the
// leader is killed with SIGKILL again and again: every increment is answered, and no two answers
// are the same number, which is what one that was applied twice would make of it.
func TestSessionIsExactlyOnceThroughKills(t *testing.T) {
	c := proctest.New(t, proctest.Build(t, "."), 3, "[snapshot]\nentries = 200\n")
	c.StartAll()
	c.Ready(waitMax)
	var addresses []string
	for _, n := range c.Nodes {
		addresses = append(addresses, n.Client)
	}
	cl, err := client.Open(client.Options{Addresses: addresses, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	session, err := cl.OpenSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var seen sync.Map
	var mu sync.Mutex
	answered := 0
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for ctx.Err() == nil {
				r, err := session.Do(t.Context(), client.Command("incr"))
				if err != nil {
					t.Errorf("an increment ended with %v", err)
					return
				}
				if _, twice := seen.LoadOrStore(string(r.Answer), true); twice {
					t.Errorf("two increments were answered with %q", r.Answer)
				}
				mu.Lock()
				answered++
				mu.Unlock()
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return answered
	}
	for range 3 {
		before := count()
		proctest.Within(t, waitMax, "increments go on", func() bool {
			return count() > before+50
		})
		leader := c.AwaitLeader(waitMax)
		c.Kill(leader)
		during := count()
		proctest.Within(t, waitMax, "increments go on without it", func() bool {
			return count() > during+50
		})
		c.Start(leader)
	}
	stop()
	writers.Wait()
	r, err := cl.Read(t.Context(), client.Command("get"))
	if want := fmt.Sprintf(":%d\r\n", count()); err != nil || string(r.Answer) != want {
		t.Errorf("the counter is %s, %v, want %s", strings.TrimSpace(string(r.Answer)), err, want)
	}
}
