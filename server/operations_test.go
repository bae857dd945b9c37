package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/connectraft/connect/config"
	"github.com/connectraft/connect/internal/admin"
	"github.com/connectraft/connect/internal/proctest"
	"github.com/connectraft/connect/server"
)

// operate sends a request to the admin listener as a program of an operator does.
func operate(t *testing.T, cfg *config.Config, method, path, body string, header ...string) (
	status int, answer string) {
	t.Helper()
	request, err := http.NewRequest(method, "http://"+cfg.Self().Admin+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	return do(t, request)
}

// openJoining opens a server that waits to be added to the cluster.
func openJoining(t *testing.T, id uint64) (*server.Server, *config.Config) {
	t.Helper()
	path := writeConfig(t, t.TempDir(), "")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	joining := strings.NewReplacer("id = 1\n", fmt.Sprintf("id = %d\n", id), "[raft]",
		"join = true\n[raft]").Replace(string(text))
	cfg, err := config.Parse(path, []byte(joining), config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, cfg, counterService), cfg
}

// statusOf reads /v1/status.
func statusOf(t *testing.T, cfg *config.Config) (s admin.Status) {
	t.Helper()
	code, body := operate(t, cfg, "GET", "/v1/status", "")
	if err := json.Unmarshal([]byte(body), &s); err != nil || code != http.StatusOK {
		t.Fatalf("status %d, %v in %s", code, err, body)
	}
	return s
}

func TestRefusedOperations(t *testing.T) {
	_, cfg := open(t, counterService, "")
	waitReady(t, cfg)
	member := `{"id":2,"peer":"127.0.0.1:1","client":"127.0.0.1:2","admin":"127.0.0.1:3"}`
	for _, test := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		say                      string
	}{
		{"web page", "POST", "/v1/drain", "{}", []string{"Origin", "http://127.0.0.1:7201"}, 403,
			"Origin"},
		{"web page that reads", "GET", "/v1/status", "", []string{"Origin", "null"}, 403, "Origin"},
		{"form", "POST", "/v1/drain", "a=1", []string{"Content-Type",
			"application/x-www-form-urlencoded"}, 403, "want application/json"},
		{"text", "POST", "/v1/members", "{}", []string{"Content-Type", "text/plain"}, 403, "want appl"},
		{"deletion by a form", "DELETE", "/v1/groups/2", "", []string{"Content-Type", ""}, 403, "want"},
		{"change by GET", "GET", "/v1/drain", "", nil, 405, "want POST"},
		{"unknown path", "POST", "/v1/frobnicate", "{}", nil, 404, "there is no /v1/frobnicate"},
		{"no JSON", "POST", "/v1/transfer", "{", nil, 400, "body: unexpected EOF"},
		{"unknown field", "POST", "/v1/transfer", `{"too":1}`, nil, 400, `unknown field \"too\"`},
		{"two objects", "POST", "/v1/transfer", `{"to":1}{}`, nil, 400, "nothing behind it"},
		{"large body", "POST", "/v1/members", `{"add":[` + strings.Repeat(member+",", 2000) + member +
			"]}", nil, 400, "too large"},
		{"many members", "POST", "/v1/members", `{"add":[` + strings.Repeat(member+",", 64) + member +
			"]}", nil, 400, "at most 64"},
		{"nothing", "POST", "/v1/members", "{}", nil, 400,
			"want add, learn, promote, remove or readdress"},
		{"every problem", "POST", "/v1/members",
			`{"add":[{"id":0,"peer":"0.0.0.0:1","client":"x","admin":"0.0.0.0:3"}],"remove":[0]}`, nil,
			400, `add[0].id = 0: want a number from 1 to 2^63-1\nadd[0].peer = \"0.0.0.0:1\": want ` +
				`host:port at which others reach the member\nadd[0].client = \"x\": want host:port at which ` +
				`others reach the member\nremove[0] = 0: want the id of a member`},
		{"no such group", "POST", "/v1/members", `{"group":9,"remove":[1]}`, nil, 404, "does not run"},
		{"no such group", "GET", "/v1/members?group=9", "", nil, 404, "does not run"},
		{"no group", "GET", "/v1/members?group=x", "", nil, 400, "want a number of 1 or more"},
		{"no target", "POST", "/v1/transfer", `{"to":0}`, nil, 400, "want the id of a member"},
		{"no voter", "POST", "/v1/transfer", `{"to":7}`, nil, 400, "node 7 has no vote"},
		{"the first group", "DELETE", "/v1/groups/1", "", nil, 400, "cannot be removed"},
		{"a second machine", "POST", "/v1/groups", `{"group":2}`, nil, 400, "one state machine"},
		{"group 0", "POST", "/v1/groups", `{"group":0}`, nil, 400, "want a number of 1 or more"},
	} {
		status, body := operate(t, cfg, test.method, test.path, test.body, test.header...)
		var f admin.Failure
		if err := json.Unmarshal([]byte(body), &f); err != nil || f.Error == nil || f.Error.Kind == "" ||
			f.Error.Outcome != admin.NotDone {
			t.Errorf("%s: %v in %s", test.name, err, body)
		}
		if status != test.status || !strings.Contains(body, test.say) {
			t.Errorf("%s: got %d %s, want %d and %s", test.name, status, body, test.status, test.say)
		}
	}
}

// TestOperations makes a second node a member, gives it the leadership and takes it away again, and
// removes it.
func TestOperations(t *testing.T) {
	_, cfg := open(t, counterService, "")
	_, joining := openJoining(t, 2)
	waitReady(t, cfg)
	dial(t, cfg).expect("incr\r\nincr\r\n", ":1", ":2")
	two := statusOf(t, joining)
	if two.State != admin.StateWaiting || two.Self.Peer != joining.Self().Peer ||
		two.Self.Incarnation == 0 || !strings.Contains(two.NotReady, "connect member add") {
		t.Errorf("the node that waits says %+v", two)
	}
	if code, body := get(t, joining, "/readyz"); code != http.StatusServiceUnavailable ||
		!strings.Contains(body, "connect member add") {
		t.Errorf("/readyz of the node that waits: %d %s", code, body)
	}

	add, err := json.Marshal(admin.Change{Add: []admin.Member{two.Self}})
	if err != nil {
		t.Fatal(err)
	}
	code, body := operate(t, cfg, "POST", "/v1/members", string(add))
	if code != http.StatusOK {
		t.Fatalf("add: %d %s", code, body)
	}
	var last admin.Line
	steps := 0
	for line := range strings.Lines(body) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		last = admin.Line{}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if last.Progress != nil {
			steps++
		}
	}
	if m := last.Membership; steps == 0 || m == nil || len(m.Voters) != 2 || m.Voters[1] != two.Self ||
		m.Group != 1 || m.Version == 0 {
		t.Fatalf("add ends with %s", body)
	}
	proctest.Within(t, waitMax, "node 2 serves", func() bool {
		return statusOf(t, joining).State == admin.StateServing
	})
	dial(t, joining).expect("get\r\n", ":2")

	for _, c := range []*config.Config{joining, cfg} { // each asks the other to give it away
		if code, body := operate(t, c, "POST", "/v1/transfer", `{"to":2}`); code != http.StatusOK {
			t.Fatalf("transfer: %d %s", code, body)
		}
	}
	if s := statusOf(t, joining); s.Summary.Leading != 1 || s.Groups[0].Role != "leader" ||
		s.Groups[0].LogBytes == 0 || len(s.Peers) != 1 || !s.Peers[0].Connected || s.Log.DiskBytes == 0 ||
		s.Disk.FreeBytes == 0 || len(s.Groups[0].Membership.Voters) != 2 {
		t.Errorf("status of the leader: %+v", s)
	}
	if code, body := operate(t, joining, "POST", "/v1/drain", `{}`); code != http.StatusOK {
		t.Fatalf("drain: %d %s", code, body)
	}
	proctest.Within(t, waitMax, "node 1 leads", func() bool {
		return statusOf(t, cfg).Summary.Leading == 1
	})

	code, body = operate(t, joining, "POST", "/v1/members", `{"version":1,"remove":[2]}`)
	if !strings.Contains(body, `"kind":"conflict"`) {
		t.Errorf("a change of another version: %d %s", code, body)
	}
	code, body = operate(t, cfg, "POST", "/v1/members", `{"remove":[2]}`)
	if code != http.StatusOK || !strings.Contains(body, `{"membership":`) {
		t.Fatalf("remove: %d %s", code, body)
	}
	proctest.Within(t, waitMax, "node 2 knows that it was removed", func() bool {
		return statusOf(t, joining).State == admin.StateRemoved
	})
	c := dial(t, joining)
	if c.send("incr\r\n"); !strings.HasPrefix(c.line(), "-CLOSED ") {
		t.Error("a node that was removed does not send its clients away")
	}
	dial(t, cfg).expect("incr\r\n", ":3")
}

// TestEventStream reads events until the server closes, which does not wait for the reader.
func TestEventStream(t *testing.T) {
	s, cfg := open(t, counterService, "[snapshot]\nentries = 1\n")
	waitReady(t, cfg)
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	response, err := client.Get("http://" + cfg.Self().Admin + "/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	dial(t, cfg).expect("incr\r\n", ":1") // and a snapshot of it is cut
	lines := bufio.NewScanner(response.Body)
	var e admin.Event
	for e.Kind != "snapshot_cut" && lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%v in %q", err, lines.Text())
		}
	}
	if e.Kind != "snapshot_cut" || e.Node != 1 || e.Group != 1 || e.Index == 0 || e.Time.IsZero() {
		t.Errorf("got %+v", e)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for lines.Scan() {
		}
	}()
	closeServer(t, s)
	select {
	case <-closed:
	case <-time.After(waitMax):
		t.Error("the stream goes on after the server has closed")
	}
}

func TestStreamsAreLimited(t *testing.T) {
	_, cfg := open(t, counterService, "")
	waitReady(t, cfg)
	const limit = 48
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for i := range limit + 1 {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet,
			"http://"+cfg.Self().Admin+"/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		want := http.StatusOK
		if i == limit {
			want = http.StatusServiceUnavailable
		}
		if response.StatusCode != want {
			t.Errorf("stream %d: %s", i, response.Status)
		}
	}
	if code, _ := get(t, cfg, "/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d while all streams are taken", code)
	}
	cancel() // the places come back
	proctest.Within(t, waitMax, "another stream is taken", func() bool {
		response, err := client.Get("http://" + cfg.Self().Admin + "/v1/events")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}
