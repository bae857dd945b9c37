package torture

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// fillDisk takes the room of the leader's disk, and keeps it when the node gives some back, until
// the node says that its log is full and refuses commands.
func (r *run) fillDisk(ctx context.Context) (string, error) {
	leader, term, err := r.cluster.awaitLeader(ctx)
	if err != nil {
		return "", err
	}
	deadline := time.Now().Add(unavailableMax)
	filled, full, refused := int64(0), false, 0
	for begun := time.Now(); time.Now().Before(deadline) && ctx.Err() == nil; {
		n, err := r.cluster.disks.fill(leader)
		if err != nil {
			return "", err
		}
		filled += n
		refused += r.press(leader)
		full = full || leader.metric(ctx, "connect_log_full") == 1
		if full && refused > 0 && time.Since(begun) > time.Second {
			break
		}
		if s, err := leader.status(ctx); err != nil || s.Role != "leader" || s.Term != term {
			return "", not("node %d ceased to lead", leader.id())
		}
	}
	if !full || refused == 0 {
		return "", not("full: %v, refused: %d, after %d bytes", full, refused, filled)
	}
	return fmt.Sprintf("node %d, %d MiB taken, commands refused", leader.id(), filled>>20), nil
}

// press writes large values, so that the log comes to its end, and returns how many were refused
// for want of room.
func (r *run) press(p *process) (refused int) {
	conn, err := dialRESP(p.client, time.Second)
	if err != nil {
		return 0
	}
	defer conn.close()
	value := strings.Repeat("x", 8<<10)
	for range 32 {
		answer, err := conn.do(operationTimeout, string(set), "press", value)
		if err != nil {
			return refused
		}
		if strings.HasPrefix(answer.failed, "DISKFULL") {
			refused++
			sleep(context.Background(), 20*time.Millisecond)
		}
	}
	return refused
}
