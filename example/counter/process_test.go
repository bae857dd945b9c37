package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/porttest"
)

// runMain makes the test binary behave as the program; the tests below start it so.
const runMain = "CONNECT_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main() // exits
	}
	os.Exit(m.Run())
}

// waitMax bounds every wait of these tests; it is only reached when something is broken.
const waitMax = 30 * time.Second

// command is the program with arguments; nothing of this process's environment configures it.
func command(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), runMain+"=1", "CONNECT_CONFIG=", "CONNECT_NODE_ID=",
		"CONNECT_NODE_DATA=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatal(err)
	}
	return exit.ExitCode()
}

// writeConfig writes the file of a cluster of one on free ports.
func writeConfig(t *testing.T) (path, data, client string) {
	t.Helper()
	addresses := porttest.Addresses(t, 3)
	dir := t.TempDir()
	path, data = filepath.Join(dir, "cluster.toml"), filepath.Join(dir, "data")
	text := fmt.Sprintf("[cluster]\nid = \"test\"\n[node]\nid = 1\ndata = %q\n"+
		"[raft]\ntick = \"10ms\"\n[[member]]\nid = 1\npeer = %q\nclient = %q\nadmin = %q\n",
		data, addresses[0], addresses[1], addresses[2])
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, data, addresses[1]
}

func TestWrongConfiguration(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	bad := filepath.Join(dir, "bad.toml")
	text := fmt.Sprintf("[cluster]\nid = \"test\"\nsize = 3\n[node]\nid = 1\ndata = %q\n"+
		"[[member]]\nid = 1\npeer = \"nowhere\"\nclient = \"127.0.0.1:7001\"\n"+
		"admin = \"127.0.0.1:7201\"\n", data)
	if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	good, _, _ := writeConfig(t)
	tests := []struct {
		name string
		args []string
		want []string // in the output
	}{
		{"every problem at once", []string{"-config", bad},
			[]string{bad + ":3", "size", bad + ":9", "nowhere"}},
		{"no file", []string{"-config", filepath.Join(dir, "none.toml")}, []string{"none.toml"}},
		{"an id that is no number", []string{"-config", good, "-id", "x"}, []string{"-id", "x"}},
		{"an id that is no member", []string{"-config", good, "-id", "9"}, []string{"9"}},
		{"an unknown flag", []string{"-nope"}, []string{"-nope"}},
		{"an argument", []string{"start"}, []string{"start"}},
	}
	for _, test := range tests {
		cmd, stderr := command(t, test.args...)
		if code := exitCode(t, cmd.Run()); code != 2 {
			t.Errorf("%s: exit code %d, want 2: %s", test.name, code, stderr)
		}
		for _, want := range test.want {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("%s: no %q in %s", test.name, want, stderr)
			}
		}
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("the data directory was touched: %v", err)
	}
}

func TestVersion(t *testing.T) {
	cmd, _ := command(t, "-version")
	out, err := cmd.Output()
	if err != nil || len(bytes.TrimSpace(out)) == 0 {
		t.Fatalf("%q, %v", out, err)
	}
}

func TestPortInUse(t *testing.T) {
	path, data, client := writeConfig(t)
	l, err := net.Listen("tcp", client)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd, stderr := command(t, "-config", path)
	if code := exitCode(t, cmd.Run()); code != 1 || !strings.Contains(stderr.String(), client) {
		t.Errorf("exit code %d, want 1 and %s in: %s", code, client, stderr)
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("the data directory was touched: %v", err)
	}
}

// start starts the program and waits until it takes clients.
func start(t *testing.T, path, client string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	cmd, stderr = command(t, "-config", path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(waitMax); time.Now().Before(deadline); runtime.Gosched() {
		if conn, err := net.Dial("tcp", client); err == nil {
			_ = conn.Close()
			return cmd, stderr
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	t.Fatalf("it does not take clients: %s", stderr)
	return nil, nil
}

func ask(t *testing.T, client, send string) string {
	t.Helper()
	conn, err := net.Dial("tcp", client)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(waitMax))
	if _, err := fmt.Fprintf(conn, "%s\r\n", send); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// TestCounterSurvives kills the program, and ends it gently, and finds every increment again.
func TestCounterSurvives(t *testing.T) {
	path, _, client := writeConfig(t)
	n := 0
	ends := []os.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL, os.Interrupt}
	for life, signal := range ends {
		cmd, stderr := start(t, path, client)
		if got, want := ask(t, client, "get"), fmt.Sprint(":", n); got != want {
			t.Errorf("life %d: get answers %s, want %s", life, got, want)
		}
		for range 20 {
			n++
			if got, want := ask(t, client, "incr"), fmt.Sprint(":", n); got != want {
				t.Errorf("life %d: incr answers %s, want %s", life, got, want)
			}
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		code := exitCode(t, cmd.Wait())
		if signal != syscall.SIGKILL && code != 0 {
			t.Errorf("life %d: exit code %d after %v: %s", life, code, signal, stderr)
		}
	}
}
