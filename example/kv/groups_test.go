package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/proctest"
)

// in gives commands to one group of a node, and returns their answers.
func in(t *testing.T, n *proctest.Node, group int, commands ...string) []string {
	t.Helper()
	var answers []string
	proctest.Within(t, time.Minute, fmt.Sprintf("group %d serves on node %d", group, n.ID),
		func() bool {
			answers = nil
			c, err := proctest.Dial(n.Client)
			if err != nil {
				return false
			}
			defer c.Close()
			for _, command := range append([]string{fmt.Sprintf("select %d", group)}, commands...) {
				answer, err := c.Do(command, 10*time.Second)
				if err != nil || strings.HasPrefix(answer, "-") {
					return false
				}
				answers = append(answers, answer)
			}
			return true
		})
	return answers[1:]
}

// TestGroupsOfACluster creates groups while the cluster runs, moves all of them to other nodes, and
// removes one. Each keeps what is in it.
func TestGroupsOfACluster(t *testing.T) {
	o := proctest.NewOperator(t, "../../cmd/connect")
	c := proctest.New(t, proctest.Build(t, "."), 3, "[snapshot]\nentries = 500\n")
	c.StartAll()
	c.Ready(time.Minute)
	first := slices.Clone(c.Nodes)
	o.Run("group create 2 3 40 --admin", first[1].Admin)
	groups := []int{1, 2, 3, 40}
	for _, g := range groups {
		in(t, first[g%3], g, fmt.Sprintf("set group %d", g), "incr hits")
	}
	o.Run("group list --admin", first[2].Admin)
	o.Run("status --wait --admin", first[0].Admin)

	second := slices.Clone(c.Add(2))
	c.StartAll()
	o.Run("member replace", fmt.Sprintf("1=%s 2=%s", second[0].Admin, second[1].Admin), "--admin",
		first[2].Admin)
	after := append(second, first[2])
	for _, n := range first[:2] {
		c.Kill(n)
	}
	for _, g := range groups {
		for _, n := range after {
			if got := in(t, n, g, "incr hits")[0]; !strings.HasPrefix(got, ":") || got == ":1" {
				t.Errorf("group %d on node %d has lost its hits: %s", g, n.ID, got)
			}
		}
		// One more when the outcome of an increment was unknown, and it was repeated.
		if got := in(t, after[g%3], g, "incr hits")[0]; got != ":5" && got != ":6" {
			t.Errorf("group %d has %s hits, want 5", g, got)
		}
	}
	said := o.Run("status --wait --timeout 60s --admin", second[0].Admin)
	if strings.Count(said, " ok\n") != 3 {
		t.Errorf("the status is\n%s", said)
	}
	o.Run("group remove 3 --admin", second[0].Admin)
	o.Run("group remove 3 --admin", second[1].Admin) // is so already
	if code, said := o.Try("group create 3 --admin", second[0].Admin); code != 1 ||
		!strings.Contains(said, "removed") {
		t.Errorf("the id of a removed group returns, exit code %d: %s", code, said)
	}
	if code, _ := o.Try("group remove 99 --admin", second[0].Admin); code != 1 {
		t.Errorf("a group that never was is removed, exit code %d", code)
	}
	for _, n := range after {
		c.Kill(n)
		c.Start(n)
	}
	o.Run("status --wait --timeout 60s --admin", second[0].Admin)
	said = o.Run("group list --admin", second[0].Admin)
	if strings.Count(said, "\n") != 4 || strings.Contains(said, "\n3 ") {
		t.Errorf("the groups are\n%s", said)
	}
	in(t, after[0], 40, "get group")
}
