package house_test

// edge lets one package import another, and says why.
type edge struct{ from, to, reason string }

// edges is the table of imports within the module. An import that is not here fails the test; add
// it only if the reason is one that you would defend in a review. Imports of tests are not held
// against it.
//
// At the bottom, without a line of their own, are the packages that import nothing of the module:
// statemachine, config, snap, transport, internal/admin, internal/children, internal/porttest,
// internal/replica, internal/vfs and internal/wire.
func edges() []edge {
	return []edge{
		{"wal", "internal/vfs", "the log is tested on a file system that crashes on purpose"},

		{"internal/apply", "statemachine", "the apply stage applies commands to machines"},
		{"internal/apply", "internal/replica", "the apply stage reads packed entries"},

		{"node", "wal", "the node drives the log"},
		{"node", "snap", "the node cuts and loads snapshots"},
		{"node", "transport", "the node sends and receives raft messages"},
		{"node", "internal/replica", "the node carries the effects of the cores"},
		{"node", "internal/apply", "the node drives the apply stages"},
		{"node", "internal/vfs", "the node locks its directory and hands the file system to the log"},
		{"node", "statemachine", "the node applies commands to machines"},

		{"server", "config", "a server is opened from a configuration"},
		{"server", "node", "a server is a node with listeners"},
		{"server", "statemachine", "a service is made of a typed machine"},
		{"server", "internal/wire", "server and client meet in the frames alone"},
		{"client", "internal/wire", "server and client meet in the frames alone"},
		{"server", "internal/admin", "the admin listener and the command line meet in its JSON alone"},
		{"cmd/connect", "internal/admin", "the admin listener and the command line meet in its JSON"},

		{"cmd/connect", "config", "the command line checks and prints configurations"},
		{"cmd/connect", "wal", "the command line shows and verifies logs"},
		{"cmd/connect", "internal/vfs", "the log is read through a file system, here the real one"},
		{"cmd/connect", "client", "the command line talks to a cluster like any client"},

		{"internal/torture", "client", "half of the clients under torture use the one that users have"},
		{"internal/torture", "internal/admin", "what it asks an operator's port for"},
		{"internal/torture", "internal/wire", "it sends what a lost client would send again"},
		{"internal/torture", "internal/children", "no node outlives the run"},
		{"internal/proctest", "internal/children", "no node outlives its test"},
		{"internal/torture", "internal/admin", "who the members are is asked as the command line does"},
		{"internal/torture", "internal/wire", "a client sends again what package client would not"},
		{"internal/torture", "internal/children", "nodes end with the torture"},
		{"internal/proctest", "internal/children", "nodes end with a test that is killed"},
		{"internal/proctest", "internal/porttest", "nobody takes the port of a killed node"},
		{"internal/cmd/torture", "internal/torture", "a program is made of its package"},

		{"example/counter", "server", "an example is a complete program"},
		{"example/counter", "statemachine", "an example implements a machine"},
		{"example/kv", "server", "an example is a complete program"},
		{"example/kv", "statemachine", "an example implements a machine"},
	}
}

// dependencies are the modules of others that non-test sources may use, with the packages that may
// and why these do not do it themselves.
func dependencies() []dependency {
	return []dependency{
		{"go.etcd.io/raft/v3", "the protocol",
			[]string{"internal/apply", "internal/replica", "node", "snap", "transport", "wal"}},
		{"google.golang.org/protobuf", "the encoding of raft's types",
			[]string{"internal/apply", "internal/replica", "node", "snap", "transport", "wal"}},
		{"go.etcd.io/bbolt", "the format of snapshots", []string{"snap"}},
		{"github.com/BurntSushi/toml", "the syntax of the configuration", []string{"config"}},
		{"github.com/tidwall/redcon", "the syntax of RESP", []string{"server"}},
		{"github.com/prometheus/client_golang", "metrics", []string{"server"}},
		{"golang.org/x/sync", "groups of goroutines", []string{"client", "node", "server", "transport"}},
		{"golang.org/x/sys", "calls of the operating system that os does not have",
			[]string{"internal/vfs"}},
		{"github.com/spf13/cobra", "the command line", []string{"cmd/connect"}},
		{"github.com/anishathalye/porcupine", "the search for an order that explains a history",
			[]string{"internal/torture"}},
	}
}

type dependency struct {
	module, reason string
	users          []string
}
