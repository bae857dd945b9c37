package main_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/proctest"
)

var (
	rounds = flag.Int("rounds", 3, "rounds of TestKillRounds")
	seed   = flag.Uint64("seed", 0, "seed of TestKillRounds; 0 = from the clock")
)

const connections, incrementsEach = 4, 50

// TestKillRounds sends increments on several connections, kills a random node (sometimes all three)
// with SIGKILL at a random moment, and starts it again: the counter never falls below what was
// acknowledged, and never exceeds what was attempted; all nodes agree after each round; no node
// needs help to start.
func TestKillRounds(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 1))
	c := proctest.New(t, proctest.Build(t, "."), 3, "[snapshot]\nentries = 200\n")
	c.StartAll()
	c.Ready(waitMax)
	var acknowledged, attempted atomic.Int64
	for round := range *rounds {
		victims := c.Nodes
		if random.IntN(4) != 0 {
			victims = []*proctest.Node{c.Nodes[random.IntN(3)]}
		}
		moment := time.Duration(random.IntN(150)) * time.Millisecond
		var clients sync.WaitGroup
		for i := range connections {
			address := c.Nodes[i%3].Client
			clients.Go(func() { increment(address, &acknowledged, &attempted) })
		}
		timer := time.NewTimer(moment)
		<-timer.C
		for _, n := range victims {
			c.Kill(n)
		}
		c.StartAll()
		clients.Wait()
		c.Ready(waitMax)
		value := agree(t, c)
		if value < acknowledged.Load() || value > attempted.Load() {
			t.Fatalf("round %d: the counter is %d, acknowledged %d, attempted %d", round, value,
				acknowledged.Load(), attempted.Load())
		}
		if testing.Verbose() && (round+1)%10 == 0 {
			t.Logf("round %d: counter %d, acknowledged %d, attempted %d", round+1, value,
				acknowledged.Load(), attempted.Load())
		}
	}
}

// increment sends its increments, one after the other, until one fails.
func increment(address string, acknowledged, attempted *atomic.Int64) {
	conn, err := proctest.Dial(address)
	if err != nil {
		return // the node was killed first
	}
	defer conn.Close()
	for range incrementsEach {
		attempted.Add(1)
		reply, err := conn.Do("incr", 15*time.Second)
		if err != nil {
			return
		}
		if strings.HasPrefix(reply, ":") {
			acknowledged.Add(1)
		}
	}
}

// agree reads the counter from every node, which must all answer the same, and returns it.
func agree(t *testing.T, c *proctest.Cluster) int64 {
	t.Helper()
	var values [3]string
	for i, n := range c.Nodes {
		proctest.Within(t, waitMax, fmt.Sprintf("node %d answers a read", n.ID), func() bool {
			conn, err := proctest.Dial(n.Client)
			if err != nil {
				return false
			}
			defer conn.Close()
			values[i], err = conn.Do("get", 5*time.Second)
			return err == nil && strings.HasPrefix(values[i], ":")
		})
	}
	if values[0] != values[1] || values[1] != values[2] {
		t.Fatalf("the nodes disagree: %v", values)
	}
	value, err := strconv.ParseInt(values[0][1:], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
