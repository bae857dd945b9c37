package server_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/connectraft/connect/client"
	"github.com/connectraft/connect/config"
	"github.com/connectraft/connect/internal/porttest"
	"github.com/connectraft/connect/server"
)

// openThree opens the servers of a cluster of three, and waits until each serves.
func openThree(t *testing.T, service func() server.Service) ([]*server.Server, []*config.Config) {
	t.Helper()
	var members strings.Builder
	free := porttest.Addresses(t, 9)
	for id := range 3 {
		fmt.Fprintf(&members, "[[member]]\nid = %d\n", id+1)
		for i, port := range []string{"peer", "client", "admin"} {
			fmt.Fprintf(&members, "%s = %q\n", port, free[3*id+i])
		}
	}
	var configs []*config.Config
	for id := range 3 {
		dir := t.TempDir()
		text := fmt.Sprintf("[cluster]\nid = \"test\"\n[node]\nid = %d\ndata = %q\n%s"+
			"[raft]\ntick = \"20ms\"\n", id+1, filepath.Join(dir, "data"), members.String())
		path := filepath.Join(dir, "cluster.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load(path, config.Overrides{})
		if err != nil {
			t.Fatal(err)
		}
		configs = append(configs, cfg)
	}
	return openAll(t, configs, service), configs
}

func openAll(t *testing.T, configs []*config.Config, service func() server.Service) (
	servers []*server.Server,
) {
	t.Helper()
	for _, cfg := range configs {
		servers = append(servers, serve(t, cfg, service))
	}
	for _, cfg := range configs {
		c := openClient(t, cfg.Self().Client)
		if _, err := c.Read(t.Context(), client.Command("get")); err != nil {
			t.Fatal(err)
		}
	}
	return servers
}

// TestGroupsOfThreeNodes creates a group, uses it on every node with both protocols, a session and
// every read level, and removes it.
func TestGroupsOfThreeNodes(t *testing.T) {
	servers, configs := openThree(t, groupsService)
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	if err := servers[0].CreateGroup(ctx, 2); err != nil {
		t.Fatal(err)
	}
	n := 0
	for i, cfg := range configs {
		c := openClient(t, cfg.Self().Client)
		g := c.Group(2)
		session, err := g.OpenSession(ctx)
		if err != nil {
			t.Fatalf("node %d: open session: %v", i+1, err)
		}
		written, err := session.Do(ctx, client.Command("incr"))
		n++
		if want := fmt.Sprintf(":%d\r\n", n); err != nil || string(written.Answer) != want {
			t.Fatalf("node %d: %q, %v, want %q", i+1, written.Answer, err, want)
		}
		for name, level := range map[string]client.ReadLevel{"linearizable": client.Linearizable,
			"lease": client.Lease, "at least": client.AtLeast(written.Index),
			"stale": client.Stale(time.Microsecond)} {
			r, err := g.Read(ctx, client.Command("get"), level)
			if want := fmt.Sprintf(":%d\r\n", n); err != nil || string(r.Answer) != want {
				t.Errorf("node %d: %s: %q, %v, want %q", i+1, name, r.Answer, err, want)
			}
		}
		n++
		dial(t, cfg).expect("select 2\r\nincr\r\nselect 0\r\nget\r\n", "+OK", fmt.Sprint(":", n),
			"+OK", ":0")
	}
	if err := servers[1].RemoveGroup(ctx, 2); err != nil {
		t.Fatal(err)
	}
	dial(t, configs[1]).expect("select 2\r\nget\r\n",
		"-NOGROUP group 2 does not run on this node; not applied", ":0")
}
