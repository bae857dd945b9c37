// Package proctest runs clusters of real processes for tests: real binaries, sockets and files, and
// a real kill -9.
package proctest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/children"
	"github.com/connectraft/connect/internal/porttest"
)

// Build compiles a main package of the module and returns the path of the binary.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "program")
	out, err := exec.Command("go", "build", "-o", binary, pkg).CombinedOutput()
	if err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return binary
}

// Cluster is a cluster of processes on loopback. Its methods are for one goroutine, except where
// they say otherwise.
type Cluster struct {
	t         testing.TB
	binary    string
	id, extra string
	starter   *children.Starter
	Config    string // the cluster file
	Dir       string
	Nodes     []*Node // Nodes[i] has id i+1, but for those that Become another
}

// Node is one process of a cluster.
type Node struct {
	ID                  uint64
	Client, Peer, Admin string // addresses
	Join                bool   // none of those the cluster begins with
	Dir                 string // data directory
	Log                 string // file with everything the process has said, over all its lives
	cmd                 *exec.Cmd
	ended               chan error
}

// New writes the configuration of a cluster of size nodes; extra is appended to it. Nothing is
// started. Every process is killed when the test ends, on Linux also when the test is killed.
func New(t testing.TB, binary string, size int, extra string) *Cluster {
	t.Helper()
	addresses := porttest.Addresses(t, 3*size)
	var members []*Node
	for i := range size {
		members = append(members, &Node{Client: addresses[3*i], Peer: addresses[3*i+1],
			Admin: addresses[3*i+2]})
	}
	return NewWith(t, binary, "test", members, extra)
}

// NewWith is New for a cluster of the given id with the addresses of the given nodes.
func NewWith(t testing.TB, binary, id string, members []*Node, extra string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, binary: binary, id: id, extra: extra, Dir: t.TempDir(),
		starter: children.New()}
	c.Config = filepath.Join(c.Dir, "cluster.toml")
	for _, m := range members {
		c.append(&Node{Client: m.Client, Peer: m.Peer, Admin: m.Admin})
	}
	c.write()
	t.Cleanup(func() {
		for _, n := range c.Nodes {
			c.Kill(n)
		}
		c.starter.Close()
		if t.Failed() {
			c.ShowLogs()
		}
	})
	return c
}

// Add writes nodes into the configuration that are to join the cluster. Nothing is started.
func (c *Cluster) Add(size int) []*Node {
	c.t.Helper()
	addresses := porttest.Addresses(c.t, 3*size)
	for i := range size {
		c.append(&Node{Client: addresses[3*i], Peer: addresses[3*i+1], Admin: addresses[3*i+2],
			Join: true})
	}
	c.write()
	return c.Nodes[len(c.Nodes)-size:]
}

// Become gives a node that does not run another id, and an empty directory, with which it is to
// join.
func (c *Cluster) Become(n *Node, id uint64) {
	c.t.Helper()
	n.ID, n.Join = id, true
	n.Dir = filepath.Join(c.Dir, fmt.Sprintf("n%d", id))
	c.write()
}

// append gives a node the next id.
func (c *Cluster) append(n *Node) {
	n.ID = uint64(len(c.Nodes) + 1)
	n.Dir = filepath.Join(c.Dir, fmt.Sprintf("n%d", n.ID))
	n.Log = n.Dir + ".log"
	c.Nodes = append(c.Nodes, n)
}

// write writes the configuration.
func (c *Cluster) write() {
	c.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "[cluster]\nid = %q\n", c.id)
	for _, n := range c.Nodes {
		fmt.Fprintf(&b, "[[member]]\nid = %d\npeer = %q\nclient = %q\nadmin = %q\njoin = %t\n", n.ID,
			n.Peer, n.Client, n.Admin, n.Join)
	}
	b.WriteString(c.extra)
	if err := os.WriteFile(c.Config, []byte(b.String()), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// Command returns the command that runs a node, not started.
func (c *Cluster) Command(n *Node) *exec.Cmd {
	return exec.Command(c.binary, "-config", c.Config, "-id", fmt.Sprint(n.ID), "-data", n.Dir)
}

// Start starts a node's process.
func (c *Cluster) Start(n *Node) {
	c.t.Helper()
	log, err := os.OpenFile(n.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	cmd := c.Command(n)
	cmd.Stdout, cmd.Stderr = log, log
	if err := c.starter.Start(cmd); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan error, 1)
	n.cmd, n.ended = cmd, ended
	go func() { ended <- cmd.Wait() }()
}

// StartAll starts every node that does not run.
func (c *Cluster) StartAll() {
	for _, n := range c.Nodes {
		if !n.Running() {
			c.Start(n)
		}
	}
}

// Running reports whether the node was started and not ended by this package.
func (n *Node) Running() bool { return n.cmd != nil }

// PID of the running process.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Signal sends a signal to the process.
func (n *Node) Signal(s syscall.Signal) error { return n.cmd.Process.Signal(s) }

// Kill ends a node with SIGKILL and waits until it is gone.
func (c *Cluster) Kill(n *Node) {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill() // it may have ended by itself
	<-n.ended
	n.cmd = nil
}

// Wait waits until the process ends by itself and returns its exit code.
func (c *Cluster) Wait(n *Node, limit time.Duration) int {
	c.t.Helper()
	select {
	case err := <-n.ended:
		n.cmd = nil
		return ExitCode(err)
	case <-time.After(limit):
		c.t.Fatalf("node %d has not ended within %v", n.ID, limit)
		return -1
	}
}

// ExitCode is the exit code that the error of a command's end stands for; -1 for any other error.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return -1
}

// Lines returns a function that reads the next line without its end.
func Lines(r io.Reader) func() (string, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	return func() (string, error) {
		line, err := buffered.ReadString('\n')
		return strings.TrimRight(line, "\r\n"), err
	}
}

// Within fails the test when condition does not come true in the given time.
func Within(t testing.TB, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond) // the pace of the poll, not the wait itself
	}
}

// Ready waits until every running node says that it serves.
func (c *Cluster) Ready(limit time.Duration) {
	c.t.Helper()
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		Within(c.t, limit, fmt.Sprintf("node %d is ready", n.ID), func() bool {
			code, _ := n.Get("/readyz")
			return code == http.StatusOK
		})
	}
}

var httpClient = &http.Client{Timeout: 2 * time.Second,
	Transport: &http.Transport{DisableKeepAlives: true}}

// Get asks the admin listener; the code is 0 when nobody answers.
func (n *Node) Get(path string) (code int, body []byte) {
	r, err := httpClient.Get("http://" + n.Admin + path)
	if err != nil {
		return 0, nil
	}
	defer r.Body.Close()
	if body, err = io.ReadAll(r.Body); err != nil {
		return 0, nil
	}
	return r.StatusCode, body
}

// Status is the part of /status that tests look at.
type Status struct {
	ID            uint64 `json:"id"`
	Role          string `json:"role"`
	Term          uint64 `json:"term"`
	Leader        uint64 `json:"leader"`
	Applied       uint64 `json:"applied"`
	FirstIndex    uint64 `json:"first_index"`
	LastIndex     uint64 `json:"last_index"`
	SnapshotIndex uint64 `json:"snapshot_index"`
}

// Status asks a node; ok is false when it does not answer.
func (n *Node) Status() (s Status, ok bool) {
	code, body := n.Get("/status")
	return s, code == http.StatusOK && json.Unmarshal(body, &s) == nil
}

// Leader returns the running node that leads, nil when there is none.
func (c *Cluster) Leader() *Node {
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		if s, ok := n.Status(); ok && s.Role == "leader" {
			return n
		}
	}
	return nil
}

// AwaitLeader waits until one of the running nodes leads, and returns it. That every node has been ready
// is not enough: a leadership may pass on at any moment, and on a busy machine it does.
func (c *Cluster) AwaitLeader(limit time.Duration) (leader *Node) {
	c.t.Helper()
	Within(c.t, limit, "one of the nodes leads", func() bool {
		leader = c.Leader()
		return leader != nil
	})
	return leader
}

// ShowLogs writes the last lines of every node's log into the test's log.
func (c *Cluster) ShowLogs() {
	for _, n := range c.Nodes {
		b, err := os.ReadFile(n.Log)
		if err != nil {
			continue
		}
		lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
		lines = lines[max(0, len(lines)-40):]
		c.t.Logf("node %d, last lines:\n%s", n.ID, bytes.Join(lines, []byte("\n")))
	}
}

// Conn is a client connection that speaks inline RESP.
type Conn struct {
	net.Conn
	r *bufio.Reader
}

// Dial connects to a client port.
func Dial(address string) (*Conn, error) {
	c, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return nil, err
	}
	return &Conn{c, bufio.NewReader(c)}, nil
}

// Do sends one line and returns the first line of the reply without its end, such as ":1" or
// "-ERR …". An error means that the outcome is not known.
func (c *Conn) Do(line string, limit time.Duration) (string, error) {
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, line+"\r\n"); err != nil {
		return "", err
	}
	reply, err := c.r.ReadString('\n')
	return strings.TrimRight(reply, "\r\n"), err
}
