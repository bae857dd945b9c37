package main_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/proctest"
)

// load is clients that increment all the time, wherever there is a node that takes it.
type load struct {
	clients                 sync.WaitGroup
	stop                    chan struct{}
	addresses               atomic.Pointer[[]string]
	acknowledged, attempted atomic.Int64
}

func startLoad(clients int, nodes []*proctest.Node) *load {
	l := &load{stop: make(chan struct{})}
	l.use(nodes)
	for i := range clients {
		l.clients.Go(func() { l.client(i) })
	}
	return l
}

// use has the clients connect to these nodes from now on.
func (l *load) use(nodes []*proctest.Node) {
	var addresses []string
	for _, n := range nodes {
		addresses = append(addresses, n.Client)
	}
	l.addresses.Store(&addresses)
}

// client increments until the end. After an error, and now and then, it takes another node.
func (l *load) client(turn int) {
	for {
		addresses := *l.addresses.Load()
		turn++
		conn, err := proctest.Dial(addresses[turn%len(addresses)])
		for range 200 {
			select {
			case <-l.stop:
				if err == nil {
					_ = conn.Close()
				}
				return
			default:
			}
			if err != nil {
				break
			}
			l.attempted.Add(1)
			var reply string
			if reply, err = conn.Do("incr", 10*time.Second); err == nil {
				if !strings.HasPrefix(reply, ":") {
					break
				}
				l.acknowledged.Add(1)
			}
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// end stops the clients and compares what they know with the counter on each node.
func (l *load) end(t *testing.T, nodes []*proctest.Node) {
	t.Helper()
	close(l.stop)
	l.clients.Wait()
	acknowledged, attempted := l.acknowledged.Load(), l.attempted.Load()
	for _, n := range nodes {
		var reply string
		proctest.Within(t, waitMax, fmt.Sprintf("node %d answers a read", n.ID), func() bool {
			conn, err := proctest.Dial(n.Client)
			if err != nil {
				return false
			}
			defer conn.Close()
			reply, err = conn.Do("get", 5*time.Second)
			return err == nil && strings.HasPrefix(reply, ":")
		})
		var value int64
		if _, err := fmt.Sscanf(reply, ":%d", &value); err != nil {
			t.Fatal(err)
		}
		if value < acknowledged || value > attempted {
			t.Errorf("node %d has %d, acknowledged were %d of %d", n.ID, value, acknowledged, attempted)
		}
	}
	t.Logf("%d of %d increments acknowledged", acknowledged, attempted)
	if acknowledged == 0 {
		t.Error("nothing was acknowledged")
	}
}

// progressed waits until the load has gone on for a while.
func (l *load) progressed(t *testing.T) {
	t.Helper()
	goal := l.acknowledged.Load() + 200
	proctest.Within(t, waitMax, "increments go on", func() bool {
		return l.acknowledged.Load() > goal
	})
}
