package server_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/connectraft/connect/config"
	"github.com/connectraft/connect/internal/porttest"
	"github.com/connectraft/connect/server"
	"github.com/connectraft/connect/statemachine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waitMax bounds every wait of these tests; it is only reached when something is broken.
const waitMax = time.Minute

// counter is the service of these tests: incr and get as in the example, fail answers an error,
// size answers how many bytes of arguments it got.
type counter struct{ n int64 }

func (c *counter) Apply(_ statemachine.Meta, command server.Command) (any, error) {
	switch command.Name() {
	case "fail":
		return nil, fmt.Errorf("it failed with %s", command.Arg(0))
	case "size":
		n := 0
		for arg := range command.Args() {
			n += len(arg)
		}
		return n, nil
	}
	c.n++
	return c.n, nil
}

func (c *counter) Query(server.Command) (any, error) { return c.n, nil }

func (c *counter) Snapshot(w io.Writer) error { return binary.Write(w, binary.BigEndian, c.n) }
func (c *counter) Restore(r io.Reader) error  { return binary.Read(r, binary.BigEndian, &c.n) }

func counterService() server.Service {
	return server.RESP(new(counter), server.Write("incr", 1), server.Read("get", 1),
		server.Write("fail", 2), server.Write("size", -1), server.Write("echo", -1))
}

// writeConfig writes the file of a cluster of one node with free ports; more is appended to it.
func writeConfig(t *testing.T, dir, more string) (path string) {
	t.Helper()
	free := porttest.Addresses(t, 3)
	text := fmt.Sprintf(`[cluster]
id = "test"
[node]
id = 1
data = %q
[[member]]
id = 1
peer = %q
client = %q
admin = %q
[raft]
tick = "10ms"
%s`, filepath.Join(dir, "data"), free[0], free[1], free[2], more)
	path = filepath.Join(dir, "cluster.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// open opens a server of a cluster of one.
func open(t *testing.T, service func() server.Service, more string) (
	*server.Server, *config.Config,
) {
	t.Helper()
	cfg, err := config.Load(writeConfig(t, t.TempDir(), more), config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, cfg, service), cfg
}

// serve opens a server until the test ends.
func serve(t *testing.T, cfg *config.Config, service func() server.Service) *server.Server {
	t.Helper()
	s, err := server.Open(cfg, service(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeServer(t, s) })
	return s
}

func closeServer(t *testing.T, s *server.Server) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// rawClient is a connection that speaks bytes.
type rawClient struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dial(t *testing.T, cfg *config.Config) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", cfg.Self().Client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(waitMax)); err != nil {
		t.Fatal(err)
	}
	return &rawClient{t: t, conn: conn, in: bufio.NewReader(conn)}
}

func (c *rawClient) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// line reads one line without its end.
func (c *rawClient) line() string {
	c.t.Helper()
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read: %q, %v", line, err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

func (c *rawClient) expect(send string, want ...string) {
	c.t.Helper()
	c.send(send)
	for _, w := range want {
		if got := c.line(); got != w {
			c.t.Fatalf("%.60q: got %q, want %q", send, got, w)
		}
	}
}

// expectEnd checks that the server closes the connection and sends nothing more.
func (c *rawClient) expectEnd() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		c.t.Fatalf("want the end of the connection, got %q, %v", rest, err)
	}
}

func TestRESP(t *testing.T) {
	_, cfg := open(t, counterService, "")
	c := dial(t, cfg)
	for _, step := range []struct {
		send string
		want []string
	}{
		{"incr\r\n", []string{":1"}},
		{"incr\n", []string{":2"}},
		{"*1\r\n$4\r\nINCR\r\n", []string{":3"}},
		{"\r\n\r\nget\r\n", []string{":3"}},
		{"fail because\r\n", []string{"-ERR it failed with because"}},
		{"get now\r\n", []string{"-ERR wrong number of arguments for 'get' command"}},
		{"fail\r\n", []string{"-ERR wrong number of arguments for 'fail' command"}},
		{"nope a b\r\n", []string{"-ERR unknown command 'nope', with args beginning with: 'a' 'b' "}},
		{"size ab c\r\n", []string{":3"}},
		{"PING\r\n", []string{"+PONG"}},
		{"ping hi\r\n", []string{"$2", "hi"}},
		{"ping a b\r\n", []string{"-ERR wrong number of arguments for 'ping' command"}},
		{"echo mine\r\n", []string{":4"}}, // the service's own command takes the built-in's place
		{"select 0\r\n", []string{"+OK"}},
		{"select 1\r\n", []string{"+OK"}},
		{"select 2\r\n", []string{"-NOGROUP group 2 does not run on this node; not applied"}},
		{"select x\r\n", []string{"-ERR invalid DB index: want the id of a group"}},
		{"select\r\n", []string{"-ERR wrong number of arguments for 'select' command"}},
		{"command docs\r\n", []string{"*0"}},
		{"config get save\r\n", []string{"*2", "$4", "save", "$0", ""}},
		{"client setname me\r\n", []string{"+OK"}},
		{"client kill me\r\n", []string{"-ERR unknown subcommand 'kill'"}},
		{"hello 3\r\n", []string{"-NOPROTO unsupported protocol version"}},
		{"hello 3 auth a b\r\n", []string{"-NOPROTO unsupported protocol version"}},
		{"get\r\n", []string{":4"}},
		{"quit\r\n", []string{"+OK"}},
	} {
		c.expect(step.send, step.want...)
	}
	c.expectEnd()
}

func TestInfo(t *testing.T) {
	_, cfg := open(t, counterService, "")
	c := dial(t, cfg)
	c.expect("incr\r\n", ":1")
	c.send("info\r\nquit\r\n")
	all, err := io.ReadAll(c.in)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"raft_role:leader\r\n", "raft_leader:1\r\n", "cluster:test\r\n"} {
		if !strings.Contains(string(all), want) {
			t.Errorf("no %q in %q", want, all)
		}
	}
}

func TestPipelinedCommandsTakeEffectInOrder(t *testing.T) {
	_, cfg := open(t, counterService, "")
	c := dial(t, cfg)
	var send strings.Builder
	var want []string
	n := 0
	for round := range 60 {
		for range round % 7 {
			send.WriteString("incr\r\n")
			n++
			want = append(want, fmt.Sprint(":", n))
		}
		for range round % 3 {
			send.WriteString("get\r\n")
			want = append(want, fmt.Sprint(":", n))
		}
		send.WriteString("ping\r\nnope\r\n")
		want = append(want, "+PONG", "-ERR unknown command 'nope', with args beginning with: ")
	}
	c.expect(send.String(), want...)
}

func TestPipelineLongerThanTheWindow(t *testing.T) {
	_, cfg := open(t, counterService, "")
	c := dial(t, cfg)
	const commands = 5000
	want := make([]string, commands)
	for i := range want {
		want[i] = fmt.Sprint(":", i+1)
	}
	c.expect(strings.Repeat("*1\r\n$4\r\nincr\r\n", commands), want...)
}

func TestLargeCommandArrivesInPieces(t *testing.T) {
	_, cfg := open(t, counterService, "")
	c := dial(t, cfg)
	const size = 1_000_000
	c.send(fmt.Sprintf("*2\r\n$4\r\nsize\r\n$%d\r\n", size))
	for range 10 {
		c.send(strings.Repeat("x", size/10))
	}
	c.expect("\r\n", fmt.Sprint(":", size))
	c.expect("incr\r\n", ":1")
}

func TestBadInputEndsItsConnectionOnly(t *testing.T) {
	_, cfg := open(t, counterService, "[limits]\ncommand = \"64KiB\"\n")
	bystander := dial(t, cfg)
	bystander.expect("incr\r\n", ":1")
	tests := []struct{ name, send, want string }{
		{"4 GiB word", "*2\r\n$4\r\nincr\r\n$4294967296\r\n",
			"-ERR Protocol error: invalid bulk length"},
		{"word over the limit", "*2\r\n$4\r\nsize\r\n$65537\r\n",
			"-ERR Protocol error: invalid bulk length"},
		{"too many words", "*1000000\r\n", "-ERR Protocol error: invalid multibulk length"},
		{"no array", "*1\r\nincr\r\n", "-ERR Protocol error: expected '$', got 'i'"},
		{"endless line", strings.Repeat("x", 70_000),
			"-ERR Protocol error: too big inline request"},
		{"browser", "POST / HTTP/1.1\r\nHost: x\r\n\r\nincr\r\n", "-ERR unknown command 'POST', " +
			"with args beginning with: '/' 'HTTP/1.1' "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := dial(t, cfg)
			c.expect(test.send, test.want)
			c.expectEnd()
		})
	}
	t.Run("garbage", func(t *testing.T) {
		c := dial(t, cfg)
		c.send("\x16\x03\x01\x02\x00\x01\x00\xfc\x03\x03\n") // a TLS client that came by
		if got := c.line(); !strings.HasPrefix(got, "-ERR unknown command") {
			t.Fatalf("got %q", got)
		}
	})
	bystander.expect("get\r\n", ":1")
}

func TestBeforeAProtocolErrorEverythingIsAnswered(t *testing.T) {
	_, cfg := open(t, counterService, "")
	c := dial(t, cfg)
	c.expect("incr\r\nincr\r\nget\r\n*x\r\nincr\r\n", ":1", ":2", ":2",
		"-ERR Protocol error: invalid multibulk length")
	c.expectEnd()
	dial(t, cfg).expect("get\r\n", ":2")
}

func TestCommandOverTheLimitIsNotApplied(t *testing.T) {
	_, cfg := open(t, counterService, "[limits]\ncommand = \"64KiB\"\n")
	c := dial(t, cfg)
	// The words fit but their encoding does not; only then the node has to refuse it.
	c.expect(fmt.Sprintf("*2\r\n$4\r\nsize\r\n$65530\r\n%s\r\n", strings.Repeat("x", 65_530)),
		"-TOOLARGE the command exceeds limits.command; not applied")
	c.expect("incr\r\n", ":1")
}

func TestConnectionLimit(t *testing.T) {
	_, cfg := open(t, counterService, "[limits]\nconnections = 2\n")
	first, second := dial(t, cfg), dial(t, cfg)
	first.expect("incr\r\n", ":1")
	second.expect("incr\r\n", ":2")
	third := dial(t, cfg)
	if got := third.line(); got != "-ERR max number of clients reached" {
		t.Fatalf("got %q", got)
	}
	third.expectEnd()
	first.expect("quit\r\n", "+OK")
	first.expectEnd()
	deadline := time.Now().Add(waitMax)
	for time.Now().Before(deadline) { // the server gives the place back a moment later
		c := dial(t, cfg)
		c.send("incr\r\n")
		if c.line() == ":3" {
			return
		}
	}
	t.Fatal("no place after a client left")
}

func TestCloseEndsIdleConnections(t *testing.T) {
	s, cfg := open(t, counterService, "")
	c := dial(t, cfg)
	c.expect("incr\r\n", ":1")
	closeServer(t, s)
	c.expectEnd()
	closeServer(t, s) // again
	if conn, err := net.Dial("tcp", cfg.Self().Client); err == nil {
		_ = conn.Close()
		t.Fatal("a closed server accepts")
	}
}

func TestServiceThatCannotBeServed(t *testing.T) {
	type point struct{ x, y int }
	services := map[string]server.Service{
		"declared twice":     server.RESP(new(counter), server.Write("a", 1), server.Read("A", 1)),
		"arity 0":            server.RESP(new(counter), server.Write("a", 0)),
		"name \"\"":          server.RESP(new(counter), server.Write("", 1)),
		"at least one":       server.RESP(new(counter)),
		"no RESP form":       server.RESP(answering[point]{}, server.Write("a", 1)),
		"RESP form":          server.RESP(answering[float64]{}, server.Write("a", 1)),
		"without spaces":     server.RESP(new(counter), server.Write("a b", 1)),
		"want 1 to 255 byte": server.RESP(new(counter), server.Write(strings.Repeat("a", 256), 1)),
	}
	for want, service := range services {
		dir := t.TempDir()
		cfg, err := config.Load(writeConfig(t, dir, ""), config.Overrides{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = server.Open(cfg, service, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "data")); !os.IsNotExist(err) {
			t.Errorf("%s: the data directory was touched: %v", want, err)
		}
	}
}

// answering is a machine with answers of any type.
type answering[R any] struct{}

func (answering[R]) Apply(statemachine.Meta, server.Command) (r R, err error) { return r, nil }
func (answering[R]) Snapshot(io.Writer) error                                 { return nil }
func (answering[R]) Restore(io.Reader) error                                  { return nil }
