package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/connectraft/connect/config"
)

// valid is a file with one member; tests change or extend it. Its lines are counted in the tests.
const valid = `[cluster]
id = "test"
[node]
id = 1
data = "data"
[[member]]
id = 1
peer = "127.0.0.1:7101"
client = "127.0.0.1:7001"
admin = "127.0.0.1:7201"
`

// second is another member, which begins at line 11 behind valid.
const second = `[[member]]
id = 2
peer = "127.0.0.1:7102"
client = "127.0.0.1:7002"
admin = "127.0.0.1:7202"
`

func parse(t *testing.T, text string, over config.Overrides) *config.Config {
	t.Helper()
	c, err := config.Parse("cluster.toml", []byte(text), over)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

func TestMinimal(t *testing.T) {
	c := parse(t, valid, config.Overrides{})
	want := config.Default()
	want.Cluster.ID = "test"
	want.Node = config.Node{ID: 1, Data: "data"}
	want.Members = []config.Member{{ID: 1, Peer: "127.0.0.1:7101", Client: "127.0.0.1:7001",
		Admin: "127.0.0.1:7201"}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v\nwant %+v", c, want)
	}
	if c.Self() != want.Members[0] {
		t.Errorf("Self = %+v", c.Self())
	}
	if _, ok := c.Member(2); ok {
		t.Error("there is no member 2")
	}
}

func TestOverrides(t *testing.T) {
	environ := func(id, data string) func(string) string {
		return func(name string) string {
			return map[string]string{"CONNECT_NODE_ID": id, "CONNECT_NODE_DATA": data}[name]
		}
	}
	bare := strings.Replace(valid, "[node]\nid = 1\ndata = \"data\"\n", "", 1) + second
	for _, test := range []struct {
		name, text string
		over       config.Overrides
		want       config.Node
	}{
		{"file", valid + second, config.Overrides{Environ: environ("", "")},
			config.Node{ID: 1, Data: "data"}},
		{"environment beats file", valid + second, config.Overrides{Environ: environ("2", "e")},
			config.Node{ID: 2, Data: "e"}},
		{"flag beats environment", valid + second,
			config.Overrides{ID: "1", Data: "f", Environ: environ("2", "e")},
			config.Node{ID: 1, Data: "f"}},
		{"each on its own", valid + second, config.Overrides{ID: "2", Environ: environ("1", "e")},
			config.Node{ID: 2, Data: "e"}},
		{"nothing in the file", bare, config.Overrides{ID: "2", Data: `d "1"`},
			config.Node{ID: 2, Data: `d "1"`}},
	} {
		if c := parse(t, test.text, test.over); c.Node != test.want {
			t.Errorf("%s: node is %+v, want %+v", test.name, c.Node, test.want)
		}
	}
}

// A program that is no node reads the same file without [node].
func TestNoNode(t *testing.T) {
	const text = `
[cluster]
id = "c"
[[member]]
id = 7
peer = "127.0.0.1:7101"
client = "127.0.0.1:7001"
admin = "127.0.0.1:7201"
`
	c := parse(t, text, config.Overrides{NoNode: true})
	if len(c.Members) != 1 || c.Members[0].Admin != "127.0.0.1:7201" {
		t.Errorf("members are %+v", c.Members)
	}
	if _, err := config.Parse("f", []byte(text), config.Overrides{}); err == nil {
		t.Error("a node is taken that is nobody")
	}
	if _, err := config.Parse("f", []byte("[node]\nid = \"x\"\n"+text),
		config.Overrides{NoNode: true}); err == nil {
		t.Error("a wrong value is taken where none is required")
	}
}

func TestProblems(t *testing.T) {
	const host = `want host:port, such as "127.0.0.1:`
	line := func(number int, text string) string { // valid with another line
		lines := strings.Split(valid, "\n")
		lines[number-1] = text
		return strings.Join(lines, "\n")
	}
	for _, test := range []struct {
		name, text string
		over       config.Overrides
		want       []string // the lines of the error, exactly
	}{
		{"bad address", line(8, `peer = "127.0.0.1"`), config.Overrides{}, []string{
			`cluster.toml:8: member.peer = "127.0.0.1": ` + host + `7101"`}},
		{"port 0", line(9, `client = "127.0.0.1:0"`), config.Overrides{}, []string{
			`cluster.toml:9: member.client = "127.0.0.1:0": ` + host + `7001"`}},
		{"port too large", line(9, `client = "127.0.0.1:65536"`), config.Overrides{}, []string{
			`cluster.toml:9: member.client = "127.0.0.1:65536": ` + host + `7001"`}},
		{"no host", line(10, `admin = ":7201"  # all`), config.Overrides{}, []string{
			`cluster.toml:10: member.admin = ":7201": ` + host + `7201"`}},
		{"address of another type", line(10, `admin = 7201`), config.Overrides{}, []string{
			`cluster.toml:10: member.admin = 7201: ` + host + `7201"`}},
		{"not loopback", line(8, `peer = "10.0.0.1:7101"`), config.Overrides{}, []string{
			`cluster.toml:8: member.peer = "10.0.0.1:7101": beyond loopback, and public is false in ` +
				`[listen]; want a loopback address such as "127.0.0.1:7101", or public = true in [listen]`}},
		{"host name", line(8, `peer = "db1.example:7101"`), config.Overrides{}, []string{
			`cluster.toml:8: member.peer = "db1.example:7101": beyond loopback, and public is false in ` +
				`[listen]; want a loopback address such as "127.0.0.1:7101", or public = true in [listen]`}},
		{"address of no host", line(8, `peer = "0.0.0.0:7101"`) + "[listen]\npublic = true\n",
			config.Overrides{}, []string{`cluster.toml:8: member.peer = "0.0.0.0:7101": nobody can ` +
				`dial this address; want an address at which the others reach this member, such as ` +
				`"127.0.0.1:7101"`}},
		{"same address twice", line(10, `admin = "127.0.0.1:7101"`), config.Overrides{}, []string{
			`cluster.toml:10: member.admin = "127.0.0.1:7101": the same as member.peer in line 8; ` +
				`want another address for each member and listener`}},
		{"duplicate id", valid + strings.Replace(second, "id = 2", "id = 1", 1), config.Overrides{},
			[]string{`cluster.toml:12: member.id = 1: the same as member.id in line 7; ` +
				`want another id for each member`}},
		{"missing keys of a member", valid + "\n[[member]]\nid = 3\n", config.Overrides{}, []string{
			`cluster.toml:12: member.peer: missing; ` + host + `7101"`,
			`cluster.toml:12: member.client: missing; ` + host + `7001"`,
			`cluster.toml:12: member.admin: missing; ` + host + `7201"`}},
		{"no member", "[cluster]\nid='c'\n[node]\nid=1\ndata='d'\n", config.Overrides{}, []string{
			`cluster.toml:1: member: missing; want [[member]] for each node, with its id, peer, ` +
				`client and admin`}},
		{"empty members", "member = []\n[cluster]\nid='c'\n[node]\nid=1\ndata='d'\n",
			config.Overrides{}, []string{`cluster.toml:1: member = []: empty; want [[member]] for ` +
				`each node, with its id, peer, client and admin`}},
		{"member as a table", strings.Replace(valid, "[[member]]", "[member]", 1),
			config.Overrides{}, []string{`cluster.toml:6: member: not an array of tables; want ` +
				`[[member]] for each node, with its id, peer, client and admin`}},
		{"section as a value", "raft = 5\n" + valid, config.Overrides{}, []string{
			`cluster.toml:1: raft = 5: not a table; want [raft] with its keys`}},
		{"node that is no member", line(4, `id = 4`) + second, config.Overrides{}, []string{
			`cluster.toml:4: node.id = 4: no such member; want the id of a member: 1 or 2`}},
		{"flag that is no member", valid + second, config.Overrides{ID: "3"}, []string{
			`command line: -id = "3": no such member; want the id of a member: 1 or 2`}},
		{"bad environment", valid, config.Overrides{Environ: func(name string) string {
			return map[string]string{"CONNECT_NODE_ID": "one"}[name]
		}}, []string{`environment: CONNECT_NODE_ID = "one": want a number of 1 or more`}},
		{"bad data directory", valid, config.Overrides{Data: "a\x00"}, []string{
			`command line: -data = "a\u0000": want a directory of this node alone, such as "data/1"`}},
		{"no node", strings.Replace(valid, "[node]\nid = 1\ndata = \"data\"\n", "", 1),
			config.Overrides{}, []string{
				`cluster.toml:1: node.id: missing; want a number of 1 or more here, by -id or by ` +
					`CONNECT_NODE_ID`,
				`cluster.toml:1: node.data: missing; want a directory of this node alone, such as ` +
					`"data/1" here, by -data or by CONNECT_NODE_DATA`}},
		{"id out of range", line(7, `id = 0`), config.Overrides{}, []string{
			`cluster.toml:7: member.id = 0: want a number of 1 or more`}},
		{"cluster id", line(2, `id = "Test"`), config.Overrides{}, []string{
			`cluster.toml:2: cluster.id = "Test": want 1 to 63 characters of a-z, 0-9 and -`}},
		{"unknown keys", valid + "colour = 'red'\n[raft]\ntik = \"1s\"\n[rafts]\na.b = 1\n",
			config.Overrides{}, []string{
				`cluster.toml:11: member.colour = 'red': unknown key; want id, peer, client, admin ` +
					`or join`,
				`cluster.toml:13: raft.tik = "1s": unknown key; want tick, election_ticks or ` +
					`heartbeat_ticks`,
				`cluster.toml:14: rafts: unknown key; want [cluster], [node], [[member]], [raft], ` +
					`[log], [snapshot], [limits] or [listen]`}},
		{"dotted keys", "raft.tick = \"1h\"\nlog.\"segment\" = 7\n" + valid, config.Overrides{},
			[]string{
				`cluster.toml:1: raft.tick = "1h": want a time from "10ms" to "10s"`,
				`cluster.toml:2: log.segment = 7: want a size from "64KiB" to "1GiB" in B, KiB, MiB or GiB`}},
		{"sizes", valid + "[limits]\ncommand = \"1.5MiB\"\nentry = \"1MB\"\n" +
			"inflight_bytes = \"99999999999999GiB\"\n", config.Overrides{}, []string{
			`cluster.toml:12: limits.command = "1.5MiB": want a size from "1B" to "32MiB" in B, KiB, ` +
				`MiB or GiB`,
			`cluster.toml:13: limits.entry = "1MB": want a size from "1KiB" to "32MiB" in B, KiB, ` +
				`MiB or GiB`,
			`cluster.toml:14: limits.inflight_bytes = "99999999999999GiB": want a size from "1MiB" to ` +
				`"16GiB" in B, KiB, MiB or GiB`}},
		{"values that do not go together", valid + "[limits]\ncommand = \"2MiB\"\n" +
			"inflight_bytes = \"1MiB\"\n[raft]\nelection_ticks = 5\nheartbeat_ticks = 5\n",
			config.Overrides{}, []string{
				`cluster.toml:12: limits.command = "2MiB": limits.entry is "1MiB"; want limits.entry ` +
					`to be at least limits.command`,
				`cluster.toml:13: limits.inflight_bytes = "1MiB": limits.command is "2MiB"; want at ` +
					`least limits.command`,
				`cluster.toml:15: raft.election_ticks = 5: raft.heartbeat_ticks is 5; want more than ` +
					`raft.heartbeat_ticks`}},
		{"join of another type", valid + "join = 1\n", config.Overrides{}, []string{
			`cluster.toml:11: member.join = 1: want true or false`}},
		{"public of another type", valid + "[listen]\npublic = \"yes\"\n", config.Overrides{},
			[]string{`cluster.toml:12: listen.public = "yes": want true or false`}},
		{"not TOML", valid + "peer\n", config.Overrides{}, []string{
			`cluster.toml:11: member: expected '.' or '=', but got '\n' instead; want valid TOML`}},
		{"key twice", "[cluster]\nid = 'a'\nid = 'b'\n", config.Overrides{}, []string{
			`cluster.toml:3: cluster.id: Key 'cluster.id' has already been defined.; want valid TOML`}},
		{"all at once", "[cluster]\nid = \"A B\"\n[node]\nid = -1\n[limits]\nconnections = 0\n" + second,
			config.Overrides{ID: "2"}, []string{
				`cluster.toml:2: cluster.id = "A B": want 1 to 63 characters of a-z, 0-9 and -`,
				`cluster.toml:3: node.data: missing; want a directory of this node alone, such as ` +
					`"data/1" here, by -data or by CONNECT_NODE_DATA`,
				`cluster.toml:4: node.id = -1: want a number of 1 or more`,
				`cluster.toml:6: limits.connections = 0: want a number from 1 to 1000000`}},
	} {
		_, err := config.Parse("cluster.toml", []byte(test.text), test.over)
		if _, ok := errors.AsType[*config.Error](err); !ok {
			t.Errorf("%s: error is %v", test.name, err)
			continue
		}
		if got := err.Error(); got != strings.Join(test.want, "\n") {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, strings.Join(test.want, "\n     "))
		}
	}
}

// Inline tables in an array are another way to write [[member]].
func TestInlineMembers(t *testing.T) {
	text := `member = [
  { id = 1, peer = "127.0.0.1:1", client = "127.0.0.1:2", admin = "127.0.0.1:3" },
  { id = 2, peer = "127.0.0.1", client = "127.0.0.1:5", admin = "127.0.0.1:6" },
]
cluster.id = "c"
node = { id = 2, data = 'd' }
`
	_, err := config.Parse("f", []byte(text), config.Overrides{})
	want := `f:3: member.peer = "127.0.0.1": want host:port, such as "127.0.0.1:7101"`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	c := parse(t, strings.Replace(text, `"127.0.0.1",`, `"[::1]:4",`, 1), config.Overrides{})
	if c.Self().Peer != "[::1]:4" || len(c.Members) != 2 {
		t.Errorf("got %+v", c)
	}
}

// One file serves the nodes that a cluster begins with and those that join it.
func TestJoin(t *testing.T) {
	c := parse(t, valid+second+"join = true\n", config.Overrides{ID: "2"})
	if !c.Self().Join || c.Members[0].Join {
		t.Errorf("got %+v", c.Members)
	}
	c = parse(t, valid+"join = true\n"+second+"join = true\n", config.Overrides{})
	if !c.Members[0].Join || !c.Members[1].Join {
		t.Errorf("got %+v", c.Members)
	}
}

func TestPublic(t *testing.T) {
	text := strings.Replace(valid, `"127.0.0.1:7101"`, `"db-1.example:7101"`, 1)
	text = strings.Replace(text, `"127.0.0.1:7201"`, `"[::]:7201"`, 1) + "[listen]\npublic = true\n"
	if c := parse(t, text, config.Overrides{}); !c.Listen.Public {
		t.Errorf("got %+v", c)
	}
}

func TestUnreadableFile(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.toml")
	_, err := config.Load(missing, config.Overrides{})
	if !errors.Is(err, fs.ErrNotExist) || strings.Count(err.Error(), missing) != 1 {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := os.Stat("/dev/zero"); err == nil { // it says that it has no bytes
		if _, err := config.Load("/dev/zero", config.Overrides{}); err == nil {
			t.Error("a file without an end is read")
		}
	}
	if _, err := config.Load(dir, config.Overrides{}); err == nil {
		t.Error("a directory is read")
	}
	large := filepath.Join(dir, "large.toml")
	if err := os.WriteFile(large, make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(large, config.Overrides{}); err == nil ||
		!strings.Contains(err.Error(), "at most 1 MiB") {
		t.Errorf("a large file: %v", err)
	}
}

func TestStringLoadsBack(t *testing.T) {
	c := parse(t, valid+second, config.Overrides{ID: "2", Data: "a \"b\"\\\x7f\t\u00e9"})
	c.Raft = config.Raft{Tick: 90 * time.Second / 9, ElectionTicks: 30, HeartbeatTicks: 3}
	c.Log = config.Log{Segment: 3<<20 + 1, Cache: 5 << 30}
	c.Snapshot = config.Snapshot{Entries: 77, Bytes: 1 << 40}
	c.Limits = config.Limits{Command: 1500, Entry: 1 << 20, InflightCommands: 1,
		InflightBytes: 1 << 30, Connections: 7, RequestTimeout: 90 * time.Second}
	c.Listen.Public = true
	c.Members[1].Join = true
	path := filepath.Join(t.TempDir(), "cluster.toml")
	if err := os.WriteFile(path, []byte(c.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	back, err := config.Load(path, config.Overrides{})
	if err != nil {
		t.Fatalf("%v\n%s", err, c)
	}
	if !reflect.DeepEqual(back, c) {
		t.Errorf("%s\nbecomes\n%s", c, back)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(valid)
	f.Add(valid + second + "[raft]\ntick = '''\n1s'''\n")
	f.Add("member = [{id = 1}, {peer = \"\"\"\n\"\"\"\"}]\n\"a\\tb\".c = 1\n[limits] # c\n")
	f.Add(config.Default().String())
	f.Fuzz(func(t *testing.T, text string) {
		c, err := config.Parse("f", []byte(text), config.Overrides{})
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a word")
			}
			return
		}
		back, err := config.Parse("f", []byte(c.String()), config.Overrides{})
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%s\nbecomes\n%s\n%v", c, back, err)
		}
	})
}
