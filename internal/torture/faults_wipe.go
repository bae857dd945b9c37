package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/connectraft/connect/internal/admin"
)

// wipeOne takes the disk of a running member and starts the node again under its id. The others have
// to refuse it, and it has to say by which command it is replaced; that is then done.
func (r *run) wipeOne(ctx context.Context) (string, error) {
	p := r.some(1)[0]
	if err := within(ctx, 10*time.Second, func() error { return r.registered(ctx) }); err != nil {
		return "", not("%v", err)
	}
	old := p.id()
	p.kill()
	if err := os.RemoveAll(p.dir); err != nil {
		return "", err
	}
	if err := p.start(); err != nil {
		return "", err
	}
	began := time.Now()
	words, err := r.refused(ctx, p)
	if err != nil {
		if ctx.Err() == nil {
			r.findings.violation("node %d with a wiped disk: %v", old, err)
		}
		return "", not("%v", err)
	}
	noticed := time.Since(began)
	r.awaitEnd(p, p.terminate())
	kills, err := r.replace(ctx, p, words)
	if err != nil {
		if ctx.Err() == nil {
			r.findings.violation("node %d is not replaced: %v", old, err)
		}
		return "", not("%v", err)
	}
	return fmt.Sprintf("node %d, refused after %v, replaced by node %d after %v and %d kills", old,
		round(noticed), p.id(), round(time.Since(began)), kills), nil
}

// members asks the leader who the members of the first group are.
func (r *run) members(ctx context.Context) (m admin.Membership, _ error) {
	leader, _ := r.cluster.leader(ctx)
	if leader == nil {
		return m, errors.New("nobody leads")
	}
	body, err := leader.get(ctx, "/v1/members?group=1")
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	return m, err
}

// registered returns nil when the cluster knows the directories of all nodes: before that it could
// not tell that one was wiped. What it knows of a directory must never change.
func (r *run) registered(ctx context.Context) error {
	m, err := r.members(ctx)
	if err != nil {
		return err
	}
	for _, p := range r.cluster.nodes {
		found, _ := m.Find(p.id())
		if found == nil {
			return fmt.Errorf("node %d is no member", p.id())
		}
		known := r.directories[p.id()]
		if known != 0 && found.Incarnation != known {
			r.findings.violation("the directory of node %d was known as %x, and now as %x", p.id(), known,
				found.Incarnation)
		}
		if r.directories[p.id()] = found.Incarnation; found.Incarnation == 0 {
			return fmt.Errorf("the directory of node %d is not registered", p.id())
		}
	}
	return nil
}

var replacement = regexp.MustCompile(`connect (member replace (\d+)=(\S+) --admin \S+)`)

// refused waits until a wiped node says that it is refused and which command helps, and returns its
// words. Until then and for a while afterwards it must serve nobody.
func (r *run) refused(ctx context.Context, p *process) (words []string, _ error) {
	deadline := time.Now().Add(unavailableMax)
	var last error
	for said := 0; said < 5; {
		body, err := p.get(ctx, "/readyz")
		if err == nil {
			return nil, fmt.Errorf("it is ready: %s", body)
		}
		if err := servesNobody(p); err != nil {
			return nil, err
		}
		last = err
		if found := replacement.FindStringSubmatch(err.Error()); found != nil {
			if found[2] != fmt.Sprint(p.id()) || found[3] != p.admin {
				return nil, fmt.Errorf("it names the wrong command: %w", err)
			}
			words = strings.Fields(found[1])
			said++
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("it does not say within %v that it is refused: %w", unavailableMax,
				last)
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return nil, context.Cause(ctx)
		}
	}
	return words, nil
}

// servesNobody returns an error when a node answers a read.
func servesNobody(p *process) error {
	conn, err := dialRESP(p.client, time.Second)
	if err != nil {
		return nil
	}
	defer conn.close()
	r, err := conn.do(100*time.Millisecond, string(get), "nobody")
	if err == nil && r.failed == "" {
		return fmt.Errorf("it answers a read: %+v", r)
	}
	return nil
}

// replace does what a refused node says: it starts a new one with an empty directory in its place,
// and gives the command, until it is done. Half of the time it kills nodes in the middle.
func (r *run) replace(ctx context.Context, p *process, words []string) (kills int, _ error) {
	a, err := r.newcomer(p)
	if err != nil {
		return 0, err
	}
	defer a.close()
	for i, word := range words {
		words[i] = strings.Replace(word, "="+p.admin, "="+a.address(), 1)
	}
	words = append(words, "--timeout", commandMax.String())
	give := func() *order { return r.operator.exec(ctx, words) }
	if r.random.IntN(2) == 0 {
		return r.amidKills(ctx, give)
	}
	return 0, within(ctx, commandMax, func() error { return give().err() })
}

// newcomer starts a node with a new id and an empty directory, which is to join; it is among the
// nodes already. The cluster knows it by an alias, which the caller closes.
func (r *run) newcomer(p *process) (*alias, error) {
	if err := os.RemoveAll(p.dir); err != nil {
		return nil, err
	}
	r.cluster.name(p)
	if err := r.cluster.configure(p, true); err != nil {
		return nil, err
	}
	a, err := newAlias(r.cluster, p)
	if err != nil {
		return nil, err
	}
	if err := p.start(); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}
