package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/proctest"
)

// A disk that fills up costs no data and no restart: increments get an error that says it, reads
// and status go on, and when there is room again so do increments.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, "64m")
	c := proctest.New(t, proctest.Build(t, "."), 3,
		"[log]\nsegment = \"1MiB\"\n[limits]\nentry = \"64KiB\"\ncommand = \"64KiB\"\n")
	for i, n := range c.Nodes {
		n.Dir = filepath.Join(disk, fmt.Sprint(i+1))
	}
	c.StartAll()
	c.Ready(waitMax)
	acknowledged := pipeline(t, c.Nodes[0].Client, 100)
	filler := fill(t, filepath.Join(disk, "filler"))

	conn, err := proctest.Dial(c.AwaitLeader(waitMax).Client)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	attempted := acknowledged
	proctest.Within(t, waitMax, "the log is full", func() bool {
		for range 200 {
			attempted++
			reply, err := conn.Do("incr", 15*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(reply, "-DISKFULL") {
				attempted--
				return true
			}
			if !strings.HasPrefix(reply, ":") {
				t.Fatalf("increment: %s", reply)
			}
			acknowledged++
		}
		return false
	})
	if got := agree(t, c); got != acknowledged {
		t.Errorf("the counter is %d on a full disk, want %d", got, acknowledged)
	}
	for _, n := range c.Nodes {
		if _, ok := n.Status(); !ok || !n.Running() {
			t.Errorf("node %d does not answer on a full disk", n.ID)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	proctest.Within(t, waitMax, "increments are taken again", func() bool {
		reply, err := conn.Do("incr", 15*time.Second)
		return err == nil && reply == fmt.Sprintf(":%d", acknowledged+1)
	})
	if got := agree(t, c); got != acknowledged+1 {
		t.Errorf("the counter is %d with room again, want %d", got, acknowledged+1)
	}
}

// smallDisk mounts a file system of the given size, for this test alone.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "connect-test", dir).
		CombinedOutput()
	if err != nil {
		t.Skipf("a small file system needs root on Linux to mount it: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// fill takes all the room that is left with a file.
func fill(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for len(block) > 0 {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	return name
}

// inject attaches to a running node and has its fdatasync calls behave as told, until the returned
// function is called or the node ends.
func inject(t *testing.T, n *proctest.Node, how string) (stop func()) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("faults are injected into system calls with strace, which is not installed")
	}
	said := filepath.Join(t.TempDir(), "strace")
	cmd := exec.Command(strace, "-f", "-p", fmt.Sprint(n.PID()), "-e", "trace=fdatasync", "-e",
		"inject=fdatasync:"+how, "-o", said)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended with the node
		_ = cmd.Wait()
	}
	if line, err := proctest.Lines(stderr)(); err != nil || !strings.Contains(line, "attached") {
		stop()
		t.Skipf("strace cannot attach here: %s", line)
	}
	return stop
}

// A sync that fails once ends the node: it acknowledges nothing more, says why and exits, the others
// go on, and it starts clean afterwards.
func TestFailedSyncEndsTheNode(t *testing.T) {
	c := proctest.New(t, proctest.Build(t, "."), 3, "")
	c.StartAll()
	c.Ready(waitMax)
	acknowledged := pipeline(t, c.Nodes[0].Client, 10)
	victim := c.AwaitLeader(waitMax)
	stop := inject(t, victim, "error=EIO:when=1")
	defer stop()
	conn, err := proctest.Dial(victim.Client)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if reply, err := conn.Do("incr", 15*time.Second); err == nil && strings.HasPrefix(reply, ":") {
		acknowledged++ // the others acknowledged it, without the victim's disk
	}
	if code := c.Wait(victim, waitMax); code == 0 {
		t.Error("the node ended with exit code 0 after a failed sync")
	}
	mustSay(t, logOf(t, victim), "node failed", "input/output error")
	for _, n := range c.Nodes {
		if n != victim {
			proctest.Within(t, waitMax, "the others serve", func() bool {
				code, _ := n.Get("/readyz")
				return code == 200
			})
		}
	}
	c.Start(victim)
	c.Ready(waitMax)
	if got := agree(t, c); got < acknowledged || got > acknowledged+1 {
		t.Errorf("the counter is %d, want %d or one more", got, acknowledged)
	}
}

func logOf(t *testing.T, n *proctest.Node) string {
	t.Helper()
	b, err := os.ReadFile(n.Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A sync that hangs moves the leadership within three election timeouts, and the node does not win it
// back while it hangs.
func TestHungSyncMovesTheLeadership(t *testing.T) {
	const electionTimeout = time.Second // the default
	c := proctest.New(t, proctest.Build(t, "."), 3, "")
	c.StartAll()
	c.Ready(waitMax)
	acknowledged := pipeline(t, c.Nodes[0].Client, 10)
	victim := c.AwaitLeader(waitMax)
	stop := inject(t, victim, "delay_enter=15s")
	defer stop()
	conn, err := proctest.Dial(victim.Client)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("incr\r\n")); err != nil { // its answer may take a while
		t.Fatal(err)
	}
	begin := time.Now()
	var next *proctest.Node
	proctest.Within(t, 3*electionTimeout, "another node leads", func() bool {
		next = c.Leader()
		return next != nil && next != victim
	})
	t.Logf("node %d leads %v after the sync began to hang", next.ID,
		time.Since(begin).Round(time.Millisecond))
	for range 8 { // about 8 s of the hang
		second := time.Now().Add(time.Second)
		for time.Now().Before(second) {
			if s, ok := victim.Status(); ok && s.Role == "leader" {
				t.Fatal("the node whose disk hangs leads again")
			}
			pipeline(t, next.Client, 1)
			acknowledged++
		}
	}
	stop()
	c.Ready(waitMax)
	if got := agree(t, c); got < acknowledged || got > acknowledged+1 {
		t.Errorf("the counter is %d, want %d or one more", got, acknowledged)
	}
}
