package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/connectraft/connect/internal/admin"
)

// lookPeriod is how often it is looked for members that are new or back.
const lookPeriod = 2 * time.Second

func newEvents() *cobra.Command {
	command := &cobra.Command{Use: "events", Short: "Print what happens, as it happens",
		Args: cobra.NoArgs,
		Long: `Print a line for each thing that happens on any member from now on, until it is
interrupted: changes of leaders and of members, snapshots, damage, trouble with disks, slow
stages, groups that start, stop or fail, and peers that come and go. Members that come later, or
come back, are followed too.`}
	return newAsk(command, 0, func(ctx context.Context, c *cluster, _ []string) error {
		f := &follower{cluster: c, streams: make(map[string]bool)}
		defer f.running.Wait()
		first := c.survey(ctx, firstGroup)
		if f.follow(ctx, first) == 0 && ctx.Err() == nil {
			return noAnswer(first)
		}
		ticker := time.NewTicker(lookPeriod)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
				f.follow(ctx, c.survey(ctx, firstGroup))
			}
		}
	})
}

var errEnded = errors.New("it stops, or has too many readers")

// follower prints the events of several members.
type follower struct {
	*cluster
	running sync.WaitGroup
	mu      sync.Mutex      // held while a line is written; guards streams
	streams map[string]bool // addresses that are being followed
}

// follow begins to follow those that answer and are not followed yet, and returns how many these
// are.
func (f *follower) follow(ctx context.Context, answers []answer) (begun int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range answers {
		address, id := a.member.Admin, a.member.ID
		if a.err != nil || f.streams[address] {
			continue
		}
		f.streams[address] = true
		begun++
		f.running.Go(func() {
			err := f.stream(ctx, http.MethodGet, address, "/v1/events", nil, f.print)
			if ctx.Err() == nil {
				f.say("member %d: no more events: %v", id, cmp.Or(err, errEnded))
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.streams, address)
		})
	}
	return begun
}

// print writes one event at once: somebody is waiting for it.
func (f *follower) print(line []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.json {
		f.printf("%s\n", line)
	} else {
		var e admin.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		f.printf("%s\n", eventText(&e))
	}
	return flush(f.OutOrStdout())
}

func flush(w io.Writer) error {
	if b, ok := w.(interface{ Flush() error }); ok {
		return b.Flush()
	}
	return nil
}

func eventText(e *admin.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s node %d", e.Time.Format("2006-01-02T15:04:05.000Z07:00"), e.Node)
	if e.Group != 0 {
		fmt.Fprintf(&b, " group %d", e.Group)
	}
	fmt.Fprintf(&b, " %s", e.Kind)
	for _, field := range []struct {
		name  string
		value uint64
	}{{"peer", e.Peer}, {"term", e.Term}, {"index", e.Index}} {
		if field.value != 0 {
			fmt.Fprintf(&b, " %s %d", field.name, field.value)
		}
	}
	if e.Bytes != 0 {
		fmt.Fprintf(&b, " %s", bytesText(e.Bytes))
	}
	if e.Took != 0 {
		fmt.Fprintf(&b, " in %v", e.Took.Round(time.Microsecond))
	}
	if e.Detail != "" {
		fmt.Fprintf(&b, ": %s", e.Detail)
	}
	if e.Missed != 0 {
		fmt.Fprintf(&b, " (%d events before it are missing)", e.Missed)
	}
	return b.String()
}
