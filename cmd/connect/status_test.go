package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/admin"
	"github.com/connectraft/connect/internal/porttest"
	"github.com/connectraft/connect/internal/proctest"
)

// row is what the tests read of a line of status --json.
type row struct {
	ID            uint64
	Admin, Role   string
	Term, Leader  uint64
	Commit        uint64
	Applied, Lag  uint64
	LogBytes      int64  `json:"log_bytes"`
	SnapshotIndex uint64 `json:"snapshot_index"`
	SnapshotBytes int64  `json:"snapshot_bytes"`
	Healthy       bool
	Error         string
}

func rows(t testing.TB, text string) []row {
	t.Helper()
	var rows []row
	for _, line := range lines(text) {
		rows = append(rows, decode[row](t, line))
	}
	return rows
}

// One member is asked and names the others.
func TestStatusOfAllMembers(t *testing.T) {
	f := newFake(t, 3, 1, 2)
	one := "--admin=" + f.address(1)
	got := rows(t, expect(t, 0, "status", "--json", one).stdout)
	want := []row{
		{1, f.address(1), "leader", 7, 1, 12, 11, 1, 2048, 5, 1024, true, ""},
		{2, f.address(2), "follower", 7, 1, 12, 10, 2, 2048, 5, 1024, true, ""},
		{3, f.address(3), "follower", 7, 1, 12, 9, 3, 2048, 5, 1024, true, ""},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("status gives\n%v, want\n%v", got, want)
	}
	text := lines(expect(t, 0, "status", one).stdout)
	if len(text) != 4 || !strings.HasPrefix(text[1],
		"1   leader    7     1       12      11       1    2.0 KiB  1.0 KiB at 5  127.") {
		t.Errorf("status prints %q", text)
	}
	// A node that waits, or was removed, is shown and does not count.
	four := f.add(t, 4, admin.StateWaiting)
	got = rows(t, expect(t, 0, "status", "--json", one+","+four.self.Admin).stdout)
	if len(got) != 4 || got[3].Role != "waiting" {
		t.Errorf("status gives %v", got)
	}
	f.set(func() { f.nodes[3].reason = "catching up" })
	r := expect(t, 1, "status", one)
	if !strings.Contains(r.stderr, "a leader serves, but 1 of 3 members are not healthy") {
		t.Errorf("status says %q", r.stderr)
	}
	f.nodes[2].server.Close()
	got = rows(t, expect(t, 1, "status", "--json", one).stdout)
	if got[1].Role != "unreachable" || !strings.Contains(got[1].Error, "refused") {
		t.Errorf("status gives %v", got)
	}
	f.set(func() { f.leader = 3 })
	r = expect(t, 1, "status", one)
	if !strings.Contains(r.stderr, "no leader serves; 2 of 3 members are not healthy") {
		t.Errorf("status says %q", r.stderr)
	}
	expect(t, 1, "status", "--group=9", one)
}

func TestStatusWaits(t *testing.T) {
	f := newFake(t, 3, 1)
	f.set(func() { f.nodes[2].reason = "catching up" })
	one := "--admin=" + f.address(1)
	expect(t, 1, "status", "--wait", "--timeout=1s", one)
	f.set(func() { f.nodes[2].told = func() { f.nodes[2].reason = "" } })
	r := expect(t, 0, "status", "--wait", one)
	if strings.Count(r.stderr, "waiting: a leader serves") != 1 {
		t.Errorf("status says %q", r.stderr)
	}
}

func TestStatusOfStrangers(t *testing.T) {
	listener := func(code int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	silent := porttest.Address(t)
	all := []string{silent, listener(500, ""), listener(200, "<html>"), listener(200, "{}")}
	got := rows(t, expect(t, 1, "status", "--json", "--admin", strings.Join(all, ",")).stdout)
	for i, want := range []string{"refused", "500", "no JSON", "no status"} {
		if len(got) != 4 || got[i].Role != "unreachable" || !strings.Contains(got[i].Error, want) {
			t.Errorf("status gives %v, want %q", got, want)
		}
	}
}

// TestStatusOfCluster runs real nodes, and looks at their logs meanwhile.
func TestStatusOfCluster(t *testing.T) {
	c := proctest.New(t, proctest.Build(t, "../../example/counter"), 3, "")
	file := filepath.Join(c.Dir, "cluster.toml")
	c.StartAll()
	c.Ready(30 * time.Second)
	r := expect(t, 0, "status", "--wait", "-config", file)
	if strings.Count(r.stdout, " follower ") != 2 || strings.Count(r.stdout, " leader ") != 1 {
		t.Errorf("status prints %q", r.stdout)
	}
	expect(t, 0, "status", "--admin", c.Nodes[1].Admin)
	for _, n := range c.Nodes {
		expect(t, 0, "wal", "verify", n.Dir)
	}
	c.Kill(c.Nodes[0])
	c.Kill(c.Nodes[1])
	proctest.Within(t, 30*time.Second, "status sees that nobody leads", func() bool {
		r := connect(t, "status", "-config", file)
		return r.code == 1 && strings.Count(r.stdout, "unreachable") == 2 &&
			strings.Contains(r.stderr, "no leader serves")
	})
	for _, n := range c.Nodes {
		if r := decode[report](t, expect(t, 0, "wal", "stat", "--json", n.Dir).stdout); r.NodeID != n.ID {
			t.Errorf("the log of node %d is that of node %d", n.ID, r.NodeID)
		}
	}
	// Whoever answers at an address that the file gives to another member is told from it.
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	swapped := filepath.Join(c.Dir, "swapped.toml")
	first, third := c.Nodes[0].Admin, c.Nodes[2].Admin
	wrong := strings.NewReplacer(third, first, first, third).Replace(string(text))
	if err := os.WriteFile(swapped, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	r = expect(t, 1, "status", "--config", swapped)
	if !strings.Contains(r.stdout, "answered as member 3") {
		t.Errorf("status prints %q", r.stdout)
	}
}
