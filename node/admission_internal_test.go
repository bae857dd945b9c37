package node

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func newGate(commands int, bytes int64) *gate {
	g := &gate{}
	g.limit(commands, bytes)
	return g
}

func TestGateBounds(t *testing.T) {
	g := newGate(2, 10)
	if !g.enter(100) {
		t.Error("an empty gate refuses one large command")
	}
	if g.enter(0) {
		t.Error("a command passes a gate that has no bytes left")
	}
	g.leave(100)
	if !g.enter(5) || !g.enter(5) {
		t.Error("commands that fit are refused")
	}
	if g.enter(0) {
		t.Error("a third command passes a gate for two")
	}
	g.leave(5)
	g.leave(5)
	if used := g.used.Load(); used != 0 {
		t.Errorf("%#x is in use when all have left", used)
	}
}

// TestGateAdmitsInTheOrderOfArrival has ten callers wait, each in turn, for a gate of one command.
func TestGateAdmitsInTheOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 100)
		g.enter(1)
		var admitted []int
		for i := range 10 {
			go func() {
				if err := g.wait(t.Context(), 1); err != nil {
					t.Error(err)
				}
				admitted = append(admitted, i) // one at a time: the gate admits one
				g.leave(1)
			}()
			synctest.Wait() // it stands in the queue
		}
		if g.enter(1) {
			t.Error("somebody passes the queue")
		}
		if len(admitted) != 0 {
			t.Errorf("%v were admitted without room", admitted)
		}
		g.leave(1)
		synctest.Wait()
		for i, who := range admitted {
			if i != who {
				t.Fatalf("admitted in the order %v", admitted)
			}
		}
		if len(admitted) != 10 {
			t.Errorf("%d of 10 were admitted", len(admitted))
		}
	})
}

// TestGateWakesNoMoreThanFit has one of many waiters wake for one command's room.
func TestGateWakesNoMoreThanFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 100)
		g.enter(1)
		var woken atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		for range 100 {
			go func() {
				_ = g.wait(ctx, 1)
				woken.Add(1)
			}()
		}
		synctest.Wait()
		g.leave(1)
		synctest.Wait()
		if n := woken.Load(); n != 1 {
			t.Errorf("%d woke for the room of one", n)
		}
		cancel()
		synctest.Wait()
		if n := woken.Load(); n != 100 {
			t.Errorf("%d of 100 are back after their context ended", n)
		}
		g.leave(1)
		if used, waiting := g.used.Load(), g.waiting.Load(); used != 0 || waiting != 0 {
			t.Errorf("%#x in use and %d in the queue when all have left", used, waiting)
		}
	})
}

// TestGateGoesOnWhenTheFirstLeaves: behind a large command that gives up a small one fits.
func TestGateGoesOnWhenTheFirstLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(10, 10)
		g.enter(6)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var large, small error
		var began = time.Now()
		var waited time.Duration
		go func() { large = g.wait(ctx, 6) }()
		synctest.Wait()
		go func() {
			small = g.wait(t.Context(), 3)
			waited = time.Since(began)
		}()
		time.Sleep(2 * time.Second) // of the fake clock
		synctest.Wait()
		if !errors.Is(large, context.DeadlineExceeded) {
			t.Errorf("the large command ended with %v, want its deadline", large)
		}
		if small != nil || waited != time.Second {
			t.Errorf("the small command was admitted after %v with %v, want 1s", waited, small)
		}
	})
}

// TestGateEnds sends everybody away who waits, and who comes later to wait.
func TestGateEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 10)
		g.enter(1)
		var ended atomic.Int64
		for range 5 {
			go func() {
				if err := g.wait(t.Context(), 1); err == errGateEnded {
					ended.Add(1)
				}
			}()
		}
		synctest.Wait()
		g.end()
		synctest.Wait()
		if n := ended.Load(); n != 5 {
			t.Errorf("%d of 5 were sent away", n)
		}
		if err := g.wait(t.Context(), 1); err != errGateEnded {
			t.Errorf("a late comer got %v", err)
		}
		g.leave(1)
		if used := g.used.Load(); used != 0 {
			t.Errorf("%#x is in use at the end", used)
		}
	})
}

// TestGateUnderLoad has many callers enter, wait, give up and leave at random: the bounds hold at
// every moment, nobody is forgotten, and nothing is left.
func TestGateUnderLoad(t *testing.T) {
	const commandsMax, bytesMax = 4, 100
	g := newGate(commandsMax, bytesMax)
	var commands, bytes, admitted atomic.Int64
	var callers sync.WaitGroup
	for caller := range 16 {
		random := rand.New(rand.NewPCG(uint64(caller), 1))
		callers.Go(func() {
			for range 500 {
				n := 1 + random.IntN(60)
				ctx, cancel := context.WithCancel(context.Background())
				if random.IntN(4) == 0 {
					time.AfterFunc(time.Duration(random.IntN(100))*time.Microsecond, cancel)
				}
				var in bool
				if random.IntN(3) == 0 {
					in = g.enter(n)
				} else {
					in = g.wait(ctx, n) == nil
				}
				if in {
					admitted.Add(1)
					if c, b := commands.Add(1), bytes.Add(int64(n)); c > commandsMax || b > bytesMax {
						t.Errorf("%d commands of %d bytes are inside", c, b)
					}
					commands.Add(-1)
					bytes.Add(-int64(n))
					g.leave(n)
				}
				cancel()
			}
		})
	}
	callers.Wait()
	if used, waiting := g.used.Load(), g.waiting.Load(); used != 0 || waiting != 0 {
		t.Errorf("%#x in use and %d in the queue at the end", used, waiting)
	}
	if admitted.Load() < 1000 {
		t.Errorf("only %d of 8,000 were admitted", admitted.Load())
	}
}

// BenchmarkAdmission is what a command pays for admission when there is room.
func BenchmarkAdmission(b *testing.B) {
	a := admission{node: newGate(1<<20, 1<<30)}
	a.group.limit(1<<20, 1<<30)
	b.ReportAllocs()
	for b.Loop() {
		if !a.enter(16) {
			b.Fatal("no room")
		}
		a.leave(16)
	}
}
