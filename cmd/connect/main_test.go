package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/connectraft/connect/internal/proctest"
)

const binaryVariable = "CONNECT_TEST_BINARY"

// TestMain builds the program once; every test runs the real binary.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "connect")
	if err == nil {
		binary := filepath.Join(dir, "connect")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		if err == nil {
			err = os.Setenv(binaryVariable, binary)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// result is what a run of the program gave.
type result struct {
	code           int
	stdout, stderr string
}

func connect(t testing.TB, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(os.Getenv(binaryVariable), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Dir = t.TempDir()
	code := proctest.ExitCode(cmd.Run())
	return result{code, stdout.String(), stderr.String()}
}

// expect runs the program and fails the test on another exit code.
func expect(t testing.TB, code int, args ...string) result {
	t.Helper()
	r := connect(t, args...)
	if r.code != code {
		t.Fatalf("connect %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.code, code,
			r.stdout, r.stderr)
	}
	return r
}

// decode reads one JSON object that is all of a line.
func decode[T any](t testing.TB, line string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		t.Fatalf("%v in %q", err, line)
	}
	return v
}

// lines splits an output into its lines.
func lines(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }

func TestUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		say  string
	}{
		{[]string{"frobnicate"}, `unknown command "frobnicate"`},
		{[]string{"wal", "repair"}, `unknown command "repair"`},
		{[]string{"wal", "verify"}, "1 arg"},
		{[]string{"wal", "verify", "a", "b"}, "1 arg"},
		{[]string{"wal", "verify", "--fast", "a"}, "unknown flag: --fast"},
		{[]string{"wal", "verify", filepath.Join(t.TempDir(), "missing")}, "no such file"},
		{[]string{"wal", "stat", t.TempDir()}, "there is no log in"},
		{[]string{"wal", "stat", file}, "not a directory"},
		{[]string{"wal", "dump", "--group", "x", "."}, "invalid argument"},
		{[]string{"status", "more"}, "unknown command"},
		{[]string{"status", "--admin", "localhost"}, "want host:port"},
		{[]string{"status", "--admin", "a:1", "--config", "f"}, "none of the others"},
		{[]string{"status", "--config", "missing.toml"}, "missing.toml"},
		{[]string{"status"}, "cluster.toml"},
	} {
		r := expect(t, 2, test.args...)
		if !strings.Contains(r.stderr, test.say) || r.stdout != "" {
			t.Errorf("%q says %q and prints %q, want %q", test.args, r.stderr, r.stdout, test.say)
		}
	}
	for _, args := range [][]string{nil, {"wal"}, {"wal", "dump", "--help"}, {"status", "-h"}} {
		if r := expect(t, 0, args...); !strings.Contains(r.stdout, "Usage:") {
			t.Errorf("%q prints %q", args, r.stdout)
		}
	}
	if r := expect(t, 0, "version"); !strings.HasPrefix(r.stdout, "connect ") {
		t.Errorf("version prints %q", r.stdout)
	}
}
