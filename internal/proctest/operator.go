package proctest

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Operator runs the command line against clusters.
type Operator struct {
	T      testing.TB
	Binary string
}

// NewOperator builds the command line; path leads to cmd/connect.
func NewOperator(t testing.TB, path string) *Operator {
	t.Helper()
	return &Operator{t, Build(t, path)}
}

// Try runs a command, whose words may stand in one string, and returns its exit code and all it has
// said.
func (o *Operator) Try(args ...string) (code int, said string) {
	var out bytes.Buffer
	cmd := exec.Command(o.Binary, strings.Fields(strings.Join(args, " "))...)
	cmd.Stdout, cmd.Stderr = &out, &out
	code = ExitCode(cmd.Run())
	return code, out.String()
}

// Run requires that a command is done.
func (o *Operator) Run(args ...string) string {
	o.T.Helper()
	begin := time.Now()
	code, said := o.Try(args...)
	o.T.Logf("connect %s: exit code %d after %v\n%s", strings.Join(args, " "), code,
		time.Since(begin).Round(time.Millisecond), said)
	if code != 0 {
		o.T.FailNow()
	}
	return said
}
