package node

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

// The removal of a group ends although the log fails with the write that the end of the group is in:
// the node could not close else.
func TestRemovalEndsWhenTheLogFails(t *testing.T) {
	n := openAlone(t)
	catalogs(t, n)
	if err := n.CreateGroup(t.Context(), 6); err != nil {
		t.Fatal(err)
	}
	held, release := make(chan struct{}), make(chan struct{})
	n.appender.upkeep.put(func() {
		close(held)
		<-release
		_ = n.wal.Close() // every append fails from here on
	})
	<-held
	removed := make(chan error, 1)
	go func() { removed <- n.removeGroup(n.Group(6)) }()
	call := n.Group(1).Go([]byte("command"))
	for deadline := time.Now().Add(30 * time.Second); len(n.ready) < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the log writer is given nothing")
		}
	}
	close(release)
	if _, err := call.Wait(t.Context()); err == nil {
		t.Error("a command is acknowledged although the log has failed")
	}
	select {
	case err := <-removed:
		if err == nil {
			t.Error("the group is said to be forgotten although the log has failed")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the removal does not end")
	}
}

// A group that waited for room when it was given up is left alone when there is room again.
func TestGroupGivenUpWhileItWaitsForRoom(t *testing.T) {
	var log strings.Builder
	g := &Group{node: &Node{}, worker: &worker{}, log: slog.New(slog.NewTextHandler(&log, nil))}
	g.failOnce.Do(func() {})
	g.awaitRoom()
	g.resume()
	if log.Len() != 0 {
		t.Error(log.String())
	}
}
