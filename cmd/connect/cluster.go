package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/connectraft/connect/config"
	"github.com/connectraft/connect/internal/admin"
)

// cluster is one call of a command that asks the members of a cluster. But for say, and for
// requests, it belongs to the goroutine that runs the command.
type cluster struct {
	*cobra.Command
	admin   []string // flags
	file    string
	json    bool
	timeout time.Duration

	id    string         // of the cluster, once a file or a member has told
	asked []admin.Member // whom to ask, at Admin; ID is 0 where only the address is known
	http  *http.Client

	saying sync.Mutex // held while a line of progress is written
	said   string     // the last one
	told   map[uint64]told
}

const (
	askTimeout  = 3 * time.Second        // for a member to answer a question
	pollPeriod  = 250 * time.Millisecond // between two looks at what is waited for
	tellPeriod  = time.Second            // between two lines about a step that lasts
	askedMax    = 256                    // addresses, whatever the members claim
	firstGroup  = 1
	changeLimit = 10 * time.Minute // a new member may have to fetch a large snapshot
	quickLimit  = 30 * time.Second
)

// newAsk makes a command that asks a cluster; do runs with a context that ends with --timeout.
func newAsk(command *cobra.Command, timeout time.Duration,
	do func(ctx context.Context, c *cluster, args []string) error) *cobra.Command {
	c := &cluster{Command: command}
	c.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	f := command.Flags()
	f.StringSliceVar(&c.admin, "admin", nil,
		"admin addresses `host:port,...` to ask; one member knows the others")
	f.StringVar(&c.file, "config", "",
		"cluster `file` to take them from (default $CONNECT_CONFIG or cluster.toml)")
	command.MarkFlagsMutuallyExclusive("admin", "config")
	f.BoolVar(&c.json, "json", false, "print JSON, an object in a line")
	if timeout > 0 {
		f.DurationVar(&c.timeout, "timeout", timeout, "how long to try and to wait")
	}
	command.RunE = func(_ *cobra.Command, args []string) error {
		if timeout > 0 && c.timeout <= 0 {
			return fmt.Errorf("--timeout %v: want more than 0, such as 30s or 5m", c.timeout)
		}
		if err := c.locate(); err != nil {
			return err
		}
		ctx := command.Context()
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, c.timeout)
			defer cancel()
		}
		return do(ctx, c, args)
	}
	return command
}

// locate takes the addresses to ask from the command line or from a cluster file.
func (c *cluster) locate() error {
	for _, address := range c.admin {
		if err := checkAddress(address); err != nil {
			return fmt.Errorf("--admin %w", err)
		}
		c.asked = append(c.asked, admin.Member{Admin: address})
	}
	if len(c.admin) > 0 {
		return nil
	}
	file := cmp.Or(c.file, os.Getenv("CONNECT_CONFIG"), "cluster.toml")
	cfg, err := config.Load(file, config.Overrides{NoNode: true})
	if err != nil {
		if c.file == "" {
			return fmt.Errorf("%w\nname a member with --admin HOST:PORT, or the file with --config", err)
		}
		return err
	}
	c.id = cfg.Cluster.ID
	for _, m := range cfg.Members {
		c.asked = append(c.asked, admin.Member{ID: m.ID, Admin: dialable(m.Admin, m.Peer)})
	}
	return nil
}

func checkAddress(address string) error {
	if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
		return fmt.Errorf("%q: want host:port", address)
	}
	return nil
}

// dialable is the admin address of a member. One that listens on every address is asked at the
// host where the others find it.
func dialable(address, peer string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || !ip.IsUnspecified()) {
		return address
	}
	peerHost, _, err := net.SplitHostPort(peer)
	if err != nil {
		return address
	}
	return net.JoinHostPort(peerHost, port)
}

// learn remembers whom else to ask.
func (c *cluster) learn(membership *admin.Membership) {
	for _, m := range slices.Concat(membership.Voters, membership.Learners) {
		m.Admin = dialable(m.Admin, m.Peer)
		known := slices.ContainsFunc(c.asked, func(k admin.Member) bool { return k.Admin == m.Admin })
		if !known && m.Admin != "" && len(c.asked) < askedMax {
			c.asked = append(c.asked, m)
		}
	}
}

// printf writes to stdout; what goes wrong shows when the buffer is flushed.
func (c *cluster) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(c.OutOrStdout(), format, args...)
}

// printJSON writes a value in one line.
func (c *cluster) printJSON(v any) error { return json.NewEncoder(c.OutOrStdout()).Encode(v) }

// printLines writes values as JSON, a line for each.
func printLines[T any](c *cluster, values []T) error {
	for _, v := range values {
		if err := c.printJSON(v); err != nil {
			return err
		}
	}
	return nil
}

// say tells on stderr what is waited for, once until something else is.
func (c *cluster) say(format string, args ...any) {
	c.saying.Lock()
	defer c.saying.Unlock()
	if line := fmt.Sprintf(format, args...); line != c.said {
		c.said = line
		_, _ = fmt.Fprintln(c.ErrOrStderr(), line)
	}
}

// told is the last line about a group's change.
type told struct {
	step string
	at   time.Time
}

// tell tells on stderr how far the change of a group is: at once when a step begins, and now and
// then while it lasts.
func (c *cluster) tell(group uint64, p *admin.Progress) {
	c.saying.Lock()
	last := c.told[group]
	news := p.Step != last.step || time.Since(last.at) >= tellPeriod
	if news {
		if c.told == nil {
			c.told = make(map[uint64]told)
		}
		c.told[group] = told{p.Step, time.Now()}
	}
	c.saying.Unlock()
	if news {
		c.say("group %d: %s", group, progressText(p))
	}
}

// pause waits a moment; false when the time is over.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(pollPeriod)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// why says how a context ended.
func why(ctx context.Context) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "--timeout is over"
	}
	return "interrupted"
}

// ids joins ids for people.
func ids(list []uint64) string {
	words := make([]string, len(list))
	for i, id := range list {
		words[i] = fmt.Sprint(id)
	}
	return strings.Join(words, " ")
}
