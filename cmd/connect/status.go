package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/connectraft/connect/config"
)

const (
	statusTimeout  = 3 * time.Second
	statusBytesMax = 1 << 20
)

// member is what a member says of itself, one line of the output.
type member struct {
	Admin         string `json:"admin"`
	ID            uint64 `json:"id"` // 0 if the member does not answer and no file names it
	Role          string `json:"role"`
	Term          uint64 `json:"term"`
	Leader        uint64 `json:"leader"`
	Applied       uint64 `json:"applied"`
	Commit        uint64 `json:"commit"`
	SnapshotIndex uint64 `json:"snapshot_index"`
	// Error is why it does not serve, or why it could not be asked; then Role is "unreachable".
	Error string `json:"error,omitempty"`
}

// serves says whether the member is a leader that serves.
func (m *member) serves() bool { return m.Role == "leader" && m.Error == "" }

func newStatus() *cobra.Command {
	var admin []string
	var file string
	var asJSON bool
	c := &cobra.Command{Use: "status", Short: "Print a line for each member of a cluster",
		Args: cobra.NoArgs,
		Long: `Print a line for each member of a cluster: id, role, term, the leader it knows, applied,
committed and snapshot index, and what is wrong with it. Every member is asked at its admin address.

Exit codes: 0 a leader serves, 1 none does, 2 wrong command line or cluster file.`,
		RunE: func(c *cobra.Command, _ []string) error {
			members, err := membersToAsk(admin, file)
			if err != nil {
				return err
			}
			askAll(c.Context(), members)
			if err := printMembers(c.OutOrStdout(), members, asJSON); err != nil {
				return err
			}
			for i := range members {
				if members[i].serves() {
					return nil
				}
			}
			return errBad
		}}
	c.Flags().StringSliceVar(&admin, "admin", nil, "admin addresses `host:port,...` to ask")
	c.Flags().StringVar(&file, "config", "",
		"cluster `file` to take them from (default $CONNECT_CONFIG or cluster.toml)")
	c.MarkFlagsMutuallyExclusive("admin", "config")
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object for each member, one in a line")
	return c
}

// membersToAsk has the addresses from the command line or from a cluster file.
func membersToAsk(admin []string, file string) ([]member, error) {
	var members []member
	for _, address := range admin {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("--admin %q: want host:port", address)
		}
		members = append(members, member{Admin: address})
	}
	if len(admin) > 0 {
		return members, nil
	}
	file = cmp.Or(file, os.Getenv("CONNECT_CONFIG"), "cluster.toml")
	cfg, err := config.Load(file, config.Overrides{NoNode: true})
	if err != nil {
		return nil, err
	}
	for _, m := range cfg.Members {
		members = append(members, member{ID: m.ID, Admin: dialable(m)})
	}
	return members, nil
}

// dialable is the admin address of a member. One that listens on every address is asked at the
// host where the others find it.
func dialable(m config.Member) string {
	host, port, err := net.SplitHostPort(m.Admin)
	if err != nil {
		return m.Admin
	}
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || !ip.IsUnspecified()) {
		return m.Admin
	}
	peer, _, err := net.SplitHostPort(m.Peer)
	if err != nil {
		return m.Admin
	}
	return net.JoinHostPort(peer, port)
}

// askAll asks all members at once and fills them in.
func askAll(ctx context.Context, members []member) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var asked sync.WaitGroup
	for i := range members {
		asked.Go(func() {
			if err := members[i].ask(ctx, client); err != nil {
				members[i].Role, members[i].Error = "unreachable", err.Error()
			}
		})
	}
	asked.Wait()
}

// answer is the part of /status that is shown.
type answer struct {
	member
	NotReady string `json:"not_ready"`
	Groups   []struct {
		Failed string `json:"failed"`
	} `json:"groups"`
}

func (m *member) ask(ctx context.Context, client *http.Client) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.Admin+"/status", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return plainError(err)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, statusBytesMax))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", response.Status)
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil || a.ID == 0 {
		return errors.New("answered something that is no status")
	}
	a.Admin, a.Error = m.Admin, a.NotReady
	for _, g := range a.Groups {
		a.Error = cmp.Or(g.Failed, a.Error)
	}
	if m.ID != 0 && m.ID != a.ID {
		return fmt.Errorf("answered as member %d", a.ID)
	}
	*m = a.member
	return nil
}

// plainError says only what went wrong on the way, not which URL was asked.
func plainError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v", statusTimeout)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op
	}
	return err
}

func printMembers(w io.Writer, members []member, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(w)
		for _, m := range members {
			if err := encoder.Encode(m); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "ID\tROLE\tTERM\tLEADER\tAPPLIED\tCOMMIT\tSNAPSHOT\tADMIN\tERROR")
	for _, m := range members {
		if m.Role == "unreachable" {
			_, _ = fmt.Fprintf(t, "%s\t%s\t-\t-\t-\t-\t-\t%s\t%s\n", number(m.ID), m.Role, m.Admin, m.Error)
			continue
		}
		_, _ = fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%d\t%d\t%d\t%s\t%s\n", m.ID, m.Role, m.Term,
			number(m.Leader), m.Applied, m.Commit, m.SnapshotIndex, m.Admin, cmp.Or(m.Error, "-"))
	}
	return t.Flush()
}

// number is a member's id, "-" for none.
func number(id uint64) string {
	if id == 0 {
		return "-"
	}
	return fmt.Sprint(id)
}
