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

	"github.com/connectraft/connect/internal/proctest"
)

type member struct {
	Admin         string
	ID            uint64
	Role          string
	Term          uint64
	Leader        uint64
	Applied       uint64
	Commit        uint64
	SnapshotIndex uint64 `json:"snapshot_index"`
	Error         string
}

// admin is an admin listener that answers /status with a body.
func admin(t testing.TB, code int, body string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/status" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestStatusAnswers(t *testing.T) {
	const format = `{"id":%d,"role":%q,"term":7,"leader":1,"commit":12,"applied":11,` +
		`"snapshot_index":5,"not_ready":%q,"groups":[{"failed":%q}]}`
	leader := admin(t, 200, fmt.Sprintf(format, 1, "leader", "", ""))
	follower := admin(t, 200, fmt.Sprintf(format, 2, "follower", "catching up", ""))
	failed := admin(t, 200, fmt.Sprintf(format, 3, "failed", "", "panic in Apply"))
	silent := proctest.FreeAddresses(t, 1)[0]
	broken := admin(t, 500, "")
	stranger := admin(t, 200, "<html>")

	all := strings.Join([]string{leader, follower, failed, silent, broken, stranger}, ",")
	var got []member
	for _, line := range lines(expect(t, 0, "status", "--json", "--admin", all).stdout) {
		got = append(got, decode[member](t, line))
	}
	want := []member{
		{leader, 1, "leader", 7, 1, 11, 12, 5, ""},
		{follower, 2, "follower", 7, 1, 11, 12, 5, "catching up"},
		{failed, 3, "failed", 7, 1, 11, 12, 5, "panic in Apply"},
		{Admin: silent, Role: "unreachable", Error: "refused"},
		{Admin: broken, Role: "unreachable", Error: "500"},
		{Admin: stranger, Role: "unreachable", Error: "no status"},
	}
	if len(got) != len(want) {
		t.Fatalf("%d members, want %d", len(got), len(want))
	}
	for i := range want {
		if strings.Contains(got[i].Error, want[i].Error) {
			got[i].Error = want[i].Error
		}
		if got[i] != want[i] {
			t.Errorf("member is %+v, want %+v", got[i], want[i])
		}
	}
	text := lines(expect(t, 0, "status", "--admin", all).stdout)
	if len(text) != 1+len(want) || !strings.HasPrefix(text[1], "1   leader") {
		t.Errorf("status prints %q", text)
	}
	expect(t, 1, "status", "--admin", follower+","+silent)
	unready := admin(t, 200, fmt.Sprintf(format, 1, "leader", "a sync is under way", ""))
	expect(t, 1, "status", "--admin", unready)
}

// TestStatusOfCluster runs real nodes, and looks at their logs meanwhile.
func TestStatusOfCluster(t *testing.T) {
	c := proctest.New(t, proctest.Build(t, "../../example/counter"), 3, "")
	file := filepath.Join(c.Dir, "cluster.toml")
	c.StartAll()
	c.Ready(30 * time.Second)
	proctest.Within(t, 30*time.Second, "status shows three members that serve", func() bool {
		r := connect(t, "status", "-config", file)
		return r.code == 0 && strings.Count(r.stdout, " follower ") == 2 &&
			strings.Count(r.stdout, " leader ") == 1
	})
	for _, n := range c.Nodes {
		expect(t, 0, "wal", "verify", n.Dir)
	}
	c.Kill(c.Nodes[0])
	c.Kill(c.Nodes[1])
	proctest.Within(t, 30*time.Second, "status sees that nobody leads", func() bool {
		r := connect(t, "status", "-config", file)
		return r.code == 1 && strings.Count(r.stdout, "unreachable") == 2
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
	r := expect(t, 1, "status", "--config", swapped)
	if !strings.Contains(r.stdout, "answered as member 3") {
		t.Errorf("status prints %q", r.stdout)
	}
}
