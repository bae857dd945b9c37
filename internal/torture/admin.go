package torture

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// status is what is looked at of a node's /status.
type status struct {
	Role     string `json:"role"`
	Term     uint64 `json:"term"`
	Leader   uint64 `json:"leader"`
	Commit   uint64 `json:"commit"`
	Applied  uint64 `json:"applied"`
	NotReady string `json:"not_ready"`
	Groups   []struct {
		Failed string `json:"failed"`
	} `json:"groups"`
}

const adminTimeout = time.Second

// get asks the admin port of a node.
func (p *process) get(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+path, nil)
	if err != nil {
		return nil, err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, bytes.TrimSpace(body))
	}
	return body, err
}

func (p *process) status(ctx context.Context) (s status, err error) {
	body, err := p.get(ctx, "/status")
	if err == nil {
		err = json.Unmarshal(body, &s)
	}
	for _, g := range s.Groups {
		if g.Failed != "" {
			p.findings.violation("a group stopped on node %d: %s", p.id(), g.Failed)
		}
	}
	return s, err
}

// ready returns nil when the node says that it serves.
func (p *process) ready(ctx context.Context) error {
	_, err := p.get(ctx, "/readyz")
	return err
}

// metric returns the sum of a metric over its labels.
func (p *process) metric(ctx context.Context, name string) (sum float64) {
	body, err := p.get(ctx, "/metrics")
	if err != nil {
		return 0
	}
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		line := lines.Text()
		metric, value, _ := strings.Cut(line, " ")
		metric, _, _ = strings.Cut(metric, "{")
		var number float64
		if _, err := fmt.Sscan(value, &number); err == nil && metric == name {
			sum += number
		}
	}
	return sum
}
