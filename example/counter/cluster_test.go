package main_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/proctest"
)

var increments = flag.Int("increments", 200_000,
	"commands of TestMemoryDoesNotGrowWithCommands in its first half")

// waitMax bounds every wait of these tests that measures nothing; it is only reached when something is
// broken. The processes of a test start and elect while other tests have the processors and the disk.
const waitMax = time.Minute

// pipeline sends n increments on one connection, many at a time, and returns the last answer.
func pipeline(t *testing.T, address string, n int) int64 {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	const window = 512
	replies := proctest.Lines(conn)
	var last string
	for n > 0 {
		batch := min(n, window)
		if _, err := io.WriteString(conn, strings.Repeat("incr\r\n", batch)); err != nil {
			t.Fatal(err)
		}
		for range batch {
			if last, err = replies(); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(last, ":") {
				t.Fatalf("increment: %s", last)
			}
		}
		n -= batch
	}
	value, err := strconv.ParseInt(last[1:], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// A node that was down while 100,000 commands went by and the log was compacted comes back through
// a snapshot.
func TestComesBackThroughASnapshot(t *testing.T) {
	// The commands make 196 entries at least, one for each window, and two snapshots are kept.
	c := proctest.New(t, proctest.Build(t, "."), 3, "[snapshot]\nentries = 50\n")
	c.StartAll()
	c.Ready(waitMax)
	away := c.Nodes[2]
	if c.AwaitLeader(waitMax) == away {
		away = c.Nodes[1]
	}
	before, ok := away.Status()
	if !ok {
		t.Fatal("no status")
	}
	c.Kill(away)
	if got := pipeline(t, c.AwaitLeader(waitMax).Client, 100_000); got != 100_000 {
		t.Fatalf("the counter is %d after 100,000 increments", got)
	}
	proctest.Within(t, waitMax, "the log is truncated behind the absent node", func() bool {
		s, ok := c.AwaitLeader(waitMax).Status()
		return ok && s.FirstIndex > before.LastIndex+1
	})
	c.Start(away)
	c.Ready(waitMax)
	if got := agree(t, c); got != 100_000 {
		t.Errorf("the counter is %d, want 100,000", got)
	}
	log, err := os.ReadFile(away.Log)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(log, []byte("snapshot restored")) {
		t.Error("the node came back without a snapshot")
	}
}

// The log is truncated behind snapshots and caches are bounded: what a node holds in memory depends
// on the state and the limits, not on how many commands went by. The figures are printed, not
// asserted, but for a bound no leak of even 100 bytes a command would pass at full length.
func TestMemoryDoesNotGrowWithCommands(t *testing.T) {
	c := proctest.New(t, proctest.Build(t, "."), 3, "[log]\ncache = \"8MiB\"\n")
	c.StartAll()
	c.Ready(waitMax)
	leader := c.AwaitLeader(waitMax)
	pipeline(t, leader.Client, *increments)
	first := residentKiB(t, leader)
	pipeline(t, leader.Client, 4**increments)
	second := residentKiB(t, leader)
	t.Logf("resident memory of the leader after %d increments: %d KiB; after %d: %d KiB",
		*increments, first, 5**increments, second)
	if grown := (second - first) << 10; grown > 64<<20+4**increments*16 {
		t.Errorf("memory grew by %d bytes over %d commands", grown, 4**increments)
	}
}

func residentKiB(t *testing.T, n *proctest.Node) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		t.Skipf("resident memory is read from /proc: %v", err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// sendRaw writes bytes to an address and returns what comes back until the other side closes.
func sendRaw(t *testing.T, address string, b []byte) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(waitMax)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(b); err != nil {
		return err.Error()
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err.Error()
	}
	answer, _ := io.ReadAll(conn) // a reset is an answer too
	return string(answer)
}

func TestGarbageHurtsNobody(t *testing.T) {
	c := proctest.New(t, proctest.Build(t, "."), 3, "")
	c.StartAll()
	c.Ready(waitMax)
	want := pipeline(t, c.Nodes[0].Client, 10)
	garbage := make([]byte, 4096)
	for i := range garbage {
		garbage[i] = byte(i*7 + i>>3)
	}
	claim := append(binary.LittleEndian.AppendUint32(nil, 1<<32-1), garbage...)
	bulk := []byte("*2\r\n$4294967296\r\n")
	for _, n := range c.Nodes {
		for _, b := range [][]byte{garbage, claim, bulk, []byte("GET / HTTP/1.1\r\n\r\n")} {
			sendRaw(t, n.Peer, b)
			sendRaw(t, n.Client, b)
		}
		if answer := sendRaw(t, n.Client, bulk); !strings.HasPrefix(answer, "-ERR") {
			t.Errorf("a claim of 4 GiB is answered with %q, want an error", answer)
		}
	}
	c.Ready(waitMax)
	if got := agree(t, c); got != want {
		t.Errorf("the counter is %d, want %d", got, want)
	}
	for _, n := range c.Nodes {
		if resident := residentKiB(t, n); resident > 1<<20 {
			t.Errorf("node %d holds %d KiB", n.ID, resident)
		}
	}
}

// refusal starts a node that must not start, and returns what it says.
func refusal(t *testing.T, c *proctest.Cluster, n *proctest.Node, want int) string {
	t.Helper()
	cmd := c.Command(n)
	timer := time.AfterFunc(waitMax, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("the node ran:\n%s", out)
	}
	if code := proctest.ExitCode(err); code != want {
		t.Errorf("exit code %d, want %d", code, want)
	}
	return string(out)
}

func mustSay(t *testing.T, out string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(out, w) {
			t.Errorf("the message does not contain %q:\n%s", w, out)
		}
	}
}

func TestRefusesToStart(t *testing.T) {
	binary := proctest.Build(t, ".")
	c := proctest.New(t, binary, 3, "")
	c.StartAll()
	c.Ready(waitMax)

	// Nodes with addresses of their own, and the directories of others.
	thieves := proctest.New(t, binary, 3, "")
	t.Run("on the directory of a running node", func(t *testing.T) {
		thief := *thieves.Nodes[0]
		thief.Dir = c.Nodes[0].Dir
		mustSay(t, refusal(t, thieves, &thief, 1), "locked", thief.Dir)
	})
	t.Run("on the directory of another node", func(t *testing.T) {
		c.Kill(c.Nodes[1])
		thief := *thieves.Nodes[0]
		thief.Dir = c.Nodes[1].Dir
		mustSay(t, refusal(t, thieves, &thief, 1), "belongs to node 2", thief.Dir)
		c.StartAll()
		c.Ready(waitMax)
	})
	t.Run("on a port in use", func(t *testing.T) {
		c.Kill(c.Nodes[0])
		l, err := net.Listen("tcp", c.Nodes[0].Client)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		mustSay(t, refusal(t, c, c.Nodes[0], 1), c.Nodes[0].Client, "in use")
	})
	t.Run("with a bad configuration", func(t *testing.T) {
		bad := filepath.Join(t.TempDir(), "bad.toml")
		text := "[cluster]\nid = \"test\"\nmoon = 1\n[[member]]\nid = 1\npeer = \"nowhere\"\n"
		if err := os.WriteFile(bad, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := c.Command(c.Nodes[0])
		cmd.Args[2] = bad
		out, err := cmd.CombinedOutput()
		if code := proctest.ExitCode(err); code != 2 {
			t.Errorf("exit code %d, want 2", code)
		}
		mustSay(t, string(out), "bad.toml:3", "moon", "bad.toml:6", "nowhere")
	})
}

// A node of another cluster that is pointed at this one is refused on both sides, and the cluster
// goes on.
func TestForeignClusterIsRefused(t *testing.T) {
	binary := proctest.Build(t, ".")
	c := proctest.New(t, binary, 3, "")
	c.StartAll()
	c.Ready(waitMax)
	want := pipeline(t, c.Nodes[0].Client, 10)
	c.Kill(c.Nodes[2]) // its addresses are free for the foreign one
	foreign := proctest.NewWith(t, binary, "other", c.Nodes, "")
	foreign.Start(foreign.Nodes[2])
	for _, n := range []*proctest.Node{foreign.Nodes[2], c.Nodes[0]} {
		proctest.Within(t, waitMax, "the log tells of the foreign cluster", func() bool {
			log, err := os.ReadFile(n.Log)
			return err == nil && bytes.Contains(log, []byte("other")) &&
				bytes.Contains(log, []byte("cluster"))
		})
	}
	foreign.Kill(foreign.Nodes[2])
	c.StartAll()
	c.Ready(waitMax)
	if got := agree(t, c); got != want {
		t.Errorf("the counter is %d, want %d", got, want)
	}
}

func TestTerminateIsClean(t *testing.T) {
	c := proctest.New(t, proctest.Build(t, "."), 3, "")
	c.StartAll()
	c.Ready(waitMax)
	for _, n := range c.Nodes {
		if err := n.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := c.Wait(n, waitMax); code != 0 {
			t.Errorf("node %d ended with exit code %d", n.ID, code)
		}
	}
}
