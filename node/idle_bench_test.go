// The processor time that a benchmark takes is asked of the system.

//go:build unix

package node_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/porttest"
	"github.com/connectraft/connect/node"
)

// BenchmarkIdleGroups is what groups cost that nobody asks anything: three nodes in this process, a
// tick of 100 ms. One operation is a second of all of them. It reports the share of one processor
// that the process takes, the live heap and stacks for each replica, and the allocations for each
// replica and tick. Ask for the number of groups with -node.groups; the default is 1,000 here.
func BenchmarkIdleGroups(b *testing.B) {
	groups := *manyGroups
	if groups == 200 {
		groups = 1000
	}
	nodes := openNodes(b, 3, 100*time.Millisecond)
	poll(b, 10*time.Minute, "every node serves", func() bool {
		for _, n := range nodes {
			if n.Group(1).Ready() != nil || !n.Group(1).Status().Resting {
				return false
			}
		}
		return true
	})
	before := memory()
	createGroups(b, nodes, groups)
	poll(b, 10*time.Minute, "every group rests", func() bool {
		for _, n := range nodes {
			if list := n.Groups(); uint64(len(list)) != groups+1 || !resting(list) {
				return false
			}
		}
		return true
	})
	time.Sleep(time.Second) // lets what has made the groups come to an end
	perReplica := float64(memory()-before) / float64(3*groups)
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	cpu, begin := processorTime(b), time.Now()
	for b.Loop() {
		time.Sleep(time.Second) // the operation
	}
	took := time.Since(begin)
	cpu = processorTime(b) - cpu
	runtime.ReadMemStats(&m1)
	ticks := float64(took) / float64(100*time.Millisecond)
	b.ReportMetric(100*float64(cpu)/float64(took), "%cpu")
	b.ReportMetric(perReplica, "B/replica")
	b.ReportMetric(float64(m1.Mallocs-m0.Mallocs)/ticks/float64(3*groups), "allocs/replica-tick")
}

// memory is the live heap and the stacks.
func memory() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// openNodes opens nodes with group 1 in this process.
func openNodes(b *testing.B, size int, tick time.Duration) []*node.Node {
	b.Helper()
	var members []node.Member
	for id := range uint64(size) {
		members = append(members, node.Member{ID: id + 1, Address: porttest.Address(b)})
	}
	dir := b.TempDir()
	var nodes []*node.Node
	for _, m := range members {
		o := node.Options{ClusterID: "bench", ID: m.ID, Dir: filepath.Join(dir, fmt.Sprint(m.ID)),
			Members: members, Tick: tick, Logger: slog.New(slog.DiscardHandler)}
		withMachines(&o)
		n, err := node.Open(o)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { n.Close() })
		if _, err := n.StartGroup(1, &sum{}); err != nil {
			b.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	return nodes
}

func createGroups(b *testing.B, nodes []*node.Node, groups uint64) {
	b.Helper()
	begin := time.Now()
	forEachGroup(b, groups+1, func(group uint64) error {
		return nodes[group%uint64(len(nodes))].CreateGroup(b.Context(), group)
	})
	b.Logf("%d groups created in %v", groups, time.Since(begin))
}
