package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// laneWriter writes one connection. It is used by the lane's goroutine.
type laneWriter struct {
	lane     *lane
	conn     net.Conn
	batch    batch
	items    []item // taken from the queue and not yet written
	spare    []item // gives its memory to the queue
	deadline time.Time
}

// run writes until something fails. It puts back what it takes from ended.
func (w *laneWriter) run(ctx context.Context, ended chan error) error {
	idle := time.NewTicker(pingInterval)
	defer idle.Stop()
	wrote := true
	for {
		select {
		case <-ctx.Done():
			return errors.New("address changed or peer removed")
		case err := <-ended:
			ended <- err
			return err
		case <-w.lane.queue.wake:
			wrote = true
			if err := w.drain(); err != nil {
				return err
			}
		case <-idle.C:
			if !wrote {
				w.batch.ping()
				if err := w.flush(); err != nil {
					return err
				}
			}
			wrote = false
		}
	}
}

// drain writes all that waits, in batches.
func (w *laneWriter) drain() error {
	taken := w.lane.queue.takeAll(w.spare)
	w.spare = nil
	for w.items = taken; len(w.items) > 0; {
		n, cost := 0, int64(0)
		for n < len(w.items) && (n == 0 || cost+w.items[n].cost <= batchBytes) {
			w.items[n].encode(&w.batch)
			cost += w.items[n].cost
			n++
		}
		if err := w.flush(); err != nil {
			return err
		}
		w.lane.queue.release(cost)
		clear(w.items[:n])
		w.items = w.items[n:]
	}
	if cap(taken) <= spareItems {
		w.spare = taken
	}
	return nil
}

// flush writes the batch.
func (w *laneWriter) flush() error {
	frames, bytes := w.batch.frames, w.batch.bytes()
	buffers := w.batch.buffers()
	for len(buffers) > 0 {
		if now := time.Now(); w.deadline.Sub(now) < hungTimeout-refreshInterval {
			w.deadline = now.Add(hungTimeout)
			if err := w.conn.SetWriteDeadline(w.deadline); err != nil {
				return err
			}
		}
		n, err := writeOnce(w.conn, &buffers)
		if err != nil && (n == 0 || !isTimeout(err)) {
			return err
		}
	}
	w.batch.reset()
	w.lane.peer.sentFrames.Add(uint64(frames))
	w.lane.peer.sentBytes.Add(uint64(bytes))
	return nil
}

// writeOnce writes what it can and leaves the rest in buffers.
func writeOnce(conn net.Conn, buffers *net.Buffers) (int64, error) {
	if len(*buffers) > 1 {
		return buffers.WriteTo(conn)
	}
	n, err := conn.Write((*buffers)[0])
	(*buffers)[0] = (*buffers)[0][n:]
	if len((*buffers)[0]) == 0 {
		*buffers = nil
	}
	return int64(n), err
}

// isClosed tells an operation on a connection that this side has closed.
func isClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
