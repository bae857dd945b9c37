package replica_test

import (
	"fmt"
	"testing"
)

// A leader that was cut off has more in its log than the next leader. When its log is cut back to that
// one's, and nobody writes any more, nothing is ever committed at the place of the rest: without an
// end their calls would hold their room for ever, and with all the room gone nobody could write.
func TestCommandsBehindACutLogEnd(t *testing.T) {
	c := newCluster(t)
	c.elect(1)
	c.cut[1] = true
	var open []*command
	for i := range 6 {
		p := &command{data: fmt.Sprintf("a command that fills its entry, number %d ..............", i)}
		open = append(open, p)
		c.cores[1].Propose(proposals(p))
		c.settle()
	}
	for range 40 { // the others' leases of the old leader run out
		if c.cores[2].Status().Leader == 2 {
			break
		}
		c.cores[2].Tick()
		c.cores[3].Tick()
		c.settle()
		if c.cores[2].Status().Leader == 0 {
			must(t, c.cores[2].Campaign())
			c.settle()
		}
	}
	c.cut[1] = false
	for range 30 {
		for id := uint64(1); id <= 3; id++ {
			c.cores[id].Tick()
		}
		c.settle()
	}
	if c.cores[1].Status().Leader == 1 {
		t.Fatal("node 1 still leads")
	}
	for i, p := range open {
		if _, ok := c.lost[p]; !ok {
			t.Errorf("command %d has no end", i)
		}
	}
	if err := c.lost[open[len(open)-1]]; err == nil || !c.unknown[open[len(open)-1]] {
		t.Errorf("the last command ended with %v, want an unknown fate", err)
	}
}
