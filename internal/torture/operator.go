package torture

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// operator runs the command line as somebody would who looks after the cluster.
type operator struct {
	cluster *cluster
	binary  string
	log     string // file with every command and what it said
}

// commandMax is how long one command may take while nothing is broken.
const commandMax = 45 * time.Second

// order is a command under way.
type order struct {
	words []string
	ended chan struct{} // closed at its end; then the rest is set
	code  int
	said  string
}

// start begins a command, which knows the admin addresses of all members. It ends with ctx.
func (o *operator) start(ctx context.Context, words ...string) *order {
	words = append(words, "--admin", strings.Join(o.admins(), ","), "--timeout", commandMax.String())
	return o.exec(ctx, words)
}

func (o *operator) admins() (addresses []string) {
	for _, p := range o.cluster.nodes {
		addresses = append(addresses, p.admin)
	}
	return addresses
}

func (o *operator) exec(ctx context.Context, words []string) *order {
	c := &order{words: words, ended: make(chan struct{})}
	execution := exec.CommandContext(ctx, o.binary, words...)
	shield(execution)
	go func() { // every caller waits for the end
		defer close(c.ended)
		out, err := execution.CombinedOutput()
		c.said, c.code = strings.TrimSpace(string(out)), execution.ProcessState.ExitCode()
		if execution.ProcessState == nil {
			c.said = err.Error()
		}
		o.note(c)
	}()
	return c
}

func (o *operator) note(c *order) {
	f, err := os.OpenFile(o.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return // it is for people only
	}
	defer f.Close()
	fmt.Fprintf(f, "connect %s: exit code %d\n%s\n", strings.Join(c.words, " "), c.code, c.said)
}

func (c *order) running() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// err says how the command failed, nil if it is done.
func (c *order) err() error {
	<-c.ended
	if c.code == 0 {
		return nil
	}
	return fmt.Errorf("connect %s: exit code %d: %s", strings.Join(c.words, " "), c.code, c.said)
}
