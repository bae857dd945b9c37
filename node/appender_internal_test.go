package node

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

// TestLogThatFailsBesideAppendsStopsTheNode has the disk fail a write that is not one of the Ready
// channel, as a group that begins has them. Nothing else may ever be written, so nobody else would
// notice that the log is poisoned: the node has to stop with this one.
func TestLogThatFailsBesideAppendsStopsTheNode(t *testing.T) {
	for name, write := range map[string]func(*Node) error{
		"a fence": func(n *Node) error {
			return n.onLog(func() error { return n.wal.Fence(1) })
		},
		"an update of a group that begins": func(n *Node) error {
			return n.appendNow(wal.Update{Group: 1, State: &wal.State{Term: 1}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			log, err := wal.Open(wal.Options{FS: fs, Dir: "wal", SegmentBytes: 1 << 20,
				Identity: wal.Identity{ClusterID: "test", NodeID: 1}})
			if err != nil {
				t.Fatal(err)
			}
			n := &Node{wal: log, log: slog.New(slog.DiscardHandler), ready: make(chan ready),
				done: make(chan struct{})}
			n.appender = newAppender(n)
			go n.appender.run()
			defer func() {
				close(n.ready)
				<-n.appender.ended
				if err := log.Close(); err != nil {
					t.Error(err)
				}
			}()
			fs.Inject(vfs.Fault{Ops: vfs.OpWrite, Times: -1, Do: vfs.Effect{Err: vfs.ErrIO}})
			if err := write(n); !errors.Is(err, vfs.ErrIO) {
				t.Errorf("written with %v, want the disk's error", err)
			}
			select {
			case <-n.Done():
			case <-time.After(30 * time.Second):
				t.Fatal("the node goes on with a poisoned log")
			}
			if err := n.Err(); !errors.Is(err, wal.ErrPoisoned) {
				t.Errorf("the node has failed with %v, want ErrPoisoned", err)
			}
		})
	}
}
