package server_test

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/connectraft/connect/config"
)

// get asks the admin listener as a browser or a probe does.
func get(t *testing.T, cfg *config.Config, path string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, "http://"+cfg.Self().Admin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, request)
}

// do sends a request over a connection of its own.
func do(t *testing.T, request *http.Request) (status int, body string) {
	t.Helper()
	client := http.Client{Timeout: waitMax, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

// waitReady waits until the server says that it serves.
func waitReady(t *testing.T, cfg *config.Config) {
	t.Helper()
	var body string
	for deadline := time.Now().Add(waitMax); time.Now().Before(deadline); {
		var status int
		if status, body = get(t, cfg, "/readyz"); status == http.StatusOK {
			return
		}
		if strings.TrimSpace(body) == "" {
			t.Fatalf("not ready, status %d, and no reason", status)
		}
	}
	t.Fatalf("not ready: %s", body)
}

func TestAdmin(t *testing.T) {
	_, cfg := open(t, counterService, "")
	waitReady(t, cfg)
	c := dial(t, cfg)
	c.expect("incr\r\nget\r\nnope\r\nping\r\n", ":1", ":1",
		"-ERR unknown command 'nope', with args beginning with: ", "+PONG")

	if status, body := get(t, cfg, "/healthz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: %d %q", status, body)
	}
	_, metrics := get(t, cfg, "/metrics")
	for _, want := range []string{
		`connect_commands_total{kind="write",outcome="applied"} 1`,
		`connect_commands_total{kind="read",outcome="applied"} 1`,
		`connect_command_seconds_count{kind="write"} 1`,
		`connect_refused_commands_total 1`,
		`connect_builtin_commands_total 1`,
		`connect_connections 1`,
		`connect_raft_is_leader{group="1"} 1`,
		`connect_log_full 0`,
		`connect_raft_voters{group="1"} 1`,
		`connect_raft_ready{group="1"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s in /metrics", want)
		}
	}
	if status, _ := get(t, cfg, "/debug/pprof/heap"); status != http.StatusOK {
		t.Errorf("/debug/pprof/heap: %d", status)
	}
	if status, _ := get(t, cfg, "/nothing"); status != http.StatusNotFound {
		t.Errorf("/nothing: %d", status)
	}
}

func TestStatus(t *testing.T) {
	_, cfg := open(t, counterService, "")
	waitReady(t, cfg)
	dial(t, cfg).expect("incr\r\n", ":1")
	_, body := get(t, cfg, "/status")
	var status struct {
		ID      uint64
		Cluster string
		Role    string
		Term    uint64
		Leader  uint64
		Applied uint64
		PID     int
		Groups  []map[string]any
		Members []struct{ Client string }
	}
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	if status.ID != 1 || status.Cluster != "test" || status.Role != "leader" || status.Leader != 1 ||
		status.Term == 0 || status.Applied == 0 || status.PID == 0 || len(status.Groups) != 1 {
		t.Errorf("got %+v", status)
	}
	if len(status.Members) != 1 || status.Members[0].Client != cfg.Self().Client {
		t.Errorf("members: %+v", status.Members)
	}
	for _, line := range []string{`  "id": 1,`, `  "role": "leader",`} { // scripts read lines
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("no line %q in %s", line, body)
		}
	}
}

func TestCloseDoesNotWaitForSilentAdminConnections(t *testing.T) {
	s, cfg := open(t, counterService, "")
	conn, err := net.Dial("tcp", cfg.Self().Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	get(t, cfg, "/healthz") // the connection before this one was accepted, too
	closeServer(t, s)
	if err := conn.SetDeadline(time.Now().Add(waitMax)); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("want the end of the connection, got %q, %v", rest, err)
	}
}

// aloneConfig adds two members that do not run, so that there is never a leader.
const aloneConfig = `[limits]
request_timeout = "100ms"
[[member]]
id = 2
peer = "127.0.0.1:1"
client = "127.0.0.1:2"
admin = "127.0.0.1:3"
[[member]]
id = 3
peer = "127.0.0.1:4"
client = "127.0.0.1:5"
admin = "127.0.0.1:6"
`

func TestWithoutALeader(t *testing.T) {
	_, cfg := open(t, counterService, aloneConfig)
	status, body := get(t, cfg, "/readyz")
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "other members") {
		t.Errorf("/readyz: %d %q, want 503 and the reason", status, body)
	}
	if _, body := get(t, cfg, "/status"); !strings.Contains(body, `"not_ready": "`) {
		t.Errorf("/status gives no reason: %s", body)
	}
	if status, _ := get(t, cfg, "/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: %d, want 200: the process itself is well", status)
	}
	c := dial(t, cfg)
	for _, send := range []string{"incr\r\n", "get\r\n", "incr\r\nget\r\n"} {
		c.send(send)
		for range strings.Count(send, "\n") {
			if got := c.line(); !strings.HasPrefix(got, "-CLUSTERDOWN ") {
				t.Errorf("%q: got %q", send, got)
			}
		}
	}
	c.expect("ping\r\n", "+PONG")
	_, metrics := get(t, cfg, "/metrics")
	for _, want := range []string{`connect_peer_connected{peer="2"} 0`,
		`connect_commands_total{kind="write",outcome="not_applied"} 2`} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s in /metrics", want)
		}
	}
}

func TestAdminConnectionsAreLimited(t *testing.T) {
	_, cfg := open(t, counterService, "")
	var silent []net.Conn
	defer func() {
		for _, conn := range silent {
			_ = conn.Close()
		}
	}()
	const limit = 128
	for range limit + 1 {
		conn, err := net.Dial("tcp", cfg.Self().Admin)
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, conn)
	}
	last := silent[limit]
	if err := last.SetReadDeadline(time.Now().Add(waitMax)); err != nil {
		t.Fatal(err)
	}
	_, err := last.Read(make([]byte, 1))
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("connection %d was not closed: %v", limit+1, err)
	}
	for _, conn := range silent {
		_ = conn.Close()
	}
	client := http.Client{Timeout: waitMax, Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(waitMax); ; { // the places come back a moment later
		response, err := client.Get("http://" + cfg.Self().Admin + "/healthz")
		if err == nil {
			_ = response.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
