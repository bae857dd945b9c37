package main_test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/connectraft/connect/internal/proctest"
)

// smallSnapshots makes sure that new members get a snapshot and the log behind it.
const smallSnapshots = "[snapshot]\nentries = 500\n"

// TestThreeFiveThree drives a cluster under load from three nodes to five, and back to three
// others.
func TestThreeFiveThree(t *testing.T) {
	o := proctest.NewOperator(t, "../../cmd/connect")
	c := proctest.New(t, proctest.Build(t, "."), 3, smallSnapshots)
	c.StartAll()
	c.Ready(waitMax)
	first := slices.Clone(c.Nodes)
	l := startLoad(4, first)
	l.progressed(t)

	second := slices.Clone(c.Add(2))
	c.StartAll()
	o.Run("member add", second[0].Admin, second[1].Admin, "--admin", first[0].Admin)
	five := c.Nodes
	l.use(five)
	l.progressed(t)
	o.Run("status --wait --admin", second[0].Admin)

	third := slices.Clone(c.Add(3))
	c.StartAll()
	var pairs []string
	for i, n := range third {
		pairs = append(pairs, fmt.Sprintf("%d=%s", first[i].ID, n.Admin))
	}
	l.use(slices.Concat(second, third))
	o.Run("member replace", strings.Join(pairs, " "), "--admin", second[0].Admin)
	o.Run("member remove 4 5 --admin", third[0].Admin)
	l.use(third)
	l.progressed(t)

	said := o.Run("member list --admin", third[2].Admin)
	if strings.Count(said, " voter ") != 3 || strings.Contains(said, "learner") {
		t.Errorf("the members are\n%s", said)
	}
	for _, n := range slices.Concat(first, second) {
		proctest.Within(t, waitMax, fmt.Sprintf("node %d says that it was removed", n.ID),
			func() bool {
				code, body := n.Get("/readyz")
				return code == http.StatusServiceUnavailable && strings.Contains(string(body), "removed")
			})
		stop(t, c, n)
	}
	o.Run("status --wait --admin", third[0].Admin)
	l.end(t, third)

	// All of them come back by themselves.
	for _, n := range third {
		c.Kill(n)
	}
	for _, n := range third {
		c.Start(n)
	}
	o.Run("status --wait --timeout 60s --admin", third[1].Admin)
}

// stop ends a node as an operator does.
func stop(t *testing.T, c *proctest.Cluster, n *proctest.Node) {
	t.Helper()
	if err := n.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := c.Wait(n, waitMax); code != 0 {
		t.Errorf("node %d ended with exit code %d", n.ID, code)
	}
}

// TestKilledInTheMiddleOfAChange kills the leader, the node that is asked, or the new node, with
// kill -9 while a replacement is under way. The command survives it, or goes on when it is given
// again.
func TestKilledInTheMiddleOfAChange(t *testing.T) {
	o, binary := proctest.NewOperator(t, "../../cmd/connect"), proctest.Build(t, ".")
	for name, victim := range map[string]func(leader, asked, joins *proctest.Node) *proctest.Node{
		"the leader": func(leader, _, _ *proctest.Node) *proctest.Node { return leader },
		"the node that is asked": func(_, asked, _ *proctest.Node) *proctest.Node {
			return asked
		},
		"the node that joins": func(_, _, joins *proctest.Node) *proctest.Node { return joins },
	} {
		t.Run(name, func(t *testing.T) { killInTheMiddle(t, o, binary, victim) })
	}
}

func killInTheMiddle(t *testing.T, o *proctest.Operator, binary string,
	victim func(leader, asked, joins *proctest.Node) *proctest.Node) {
	o.T = t
	c := proctest.New(t, binary, 3, smallSnapshots)
	c.StartAll()
	c.Ready(waitMax)
	first := slices.Clone(c.Nodes)
	l := startLoad(2, first)
	l.progressed(t)
	joins := c.Add(1)[0]
	c.Start(joins)
	leader := c.AwaitLeader(waitMax)
	// The one that leaves is neither the leader nor the node that is asked.
	others := without(first, leader)
	asked, leaves := others[0], others[1]
	args := []string{"member", "replace", fmt.Sprintf("%d=%s", leaves.ID, joins.Admin), "--admin",
		strings.Join(admins(first), ","), "--timeout", "60s"}

	cmd := exec.Command(o.Binary, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		t.Log(lines.Text())
		if strings.Contains(lines.Text(), "catching up") {
			break
		}
	}
	dead := victim(leader, asked, joins)
	c.Kill(dead)
	t.Logf("killed node %d in the middle", dead.ID)
	if dead == joins {
		c.Start(joins)
	}
	for lines.Scan() {
		t.Log(lines.Text())
	}
	code := proctest.ExitCode(cmd.Wait())
	if code != 0 && code != 3 {
		t.Errorf("the command ended with exit code %d", code)
	}
	c.StartAll()
	o.Run(args...)
	after := without(c.Nodes, leaves)
	l.use(after)
	l.progressed(t)
	o.Run("status --wait --timeout 60s --admin", joins.Admin)
	l.end(t, after)
}

func without(nodes []*proctest.Node, gone *proctest.Node) []*proctest.Node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *proctest.Node) bool { return n == gone })
}

func admins(nodes []*proctest.Node) []string {
	var addresses []string
	for _, n := range nodes {
		addresses = append(addresses, n.Admin)
	}
	return addresses
}

// TestLostDirectory starts a node under its old id on an empty directory. It is refused, and its
// log and /readyz name the command that replaces it, which is then given as it stands there.
func TestLostDirectory(t *testing.T) {
	o := proctest.NewOperator(t, "../../cmd/connect")
	c := proctest.New(t, proctest.Build(t, "."), 3, smallSnapshots)
	c.StartAll()
	c.Ready(waitMax)
	l := startLoad(2, c.Nodes[:2])
	l.progressed(t)
	registered := regexp.MustCompile(`"incarnation":[1-9]`)
	proctest.Within(t, waitMax, "the cluster knows the directories", func() bool {
		_, said := o.Try("member list --json --admin", c.Nodes[0].Admin)
		return len(registered.FindAllString(said, -1)) == 3
	})

	lost := c.Nodes[2]
	c.Kill(lost)
	if err := os.RemoveAll(lost.Dir); err != nil {
		t.Fatal(err)
	}
	c.Start(lost)
	command := regexp.MustCompile("connect (member replace 3=[0-9.:]+ --admin [0-9.:]+)")
	var found []string
	proctest.Within(t, waitMax, "/readyz names the command", func() bool {
		code, body := lost.Get("/readyz")
		found = command.FindStringSubmatch(string(body))
		return code == http.StatusServiceUnavailable && found != nil
	})
	mustSay(t, logOf(t, lost), found[0])
	if code, said := o.Try("member add", lost.Admin, "--admin", c.Nodes[0].Admin); code != 1 {
		t.Errorf("the node is added as it is, exit code %d: %s", code, said)
	}
	stop(t, c, lost)
	c.Become(lost, 4)
	c.Start(lost)
	o.Run(found[1])
	said := o.Run("status --wait --timeout 60s --admin", lost.Admin)
	if strings.Count(said, " ok\n") != 3 {
		t.Errorf("the status is\n%s", said)
	}
	l.end(t, c.Nodes)
}
