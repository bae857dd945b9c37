package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress tells on stderr how far a long reading is: on a terminal in one line that is written
// over, elsewhere in a line every few seconds. A short reading says nothing.
type progress struct {
	w        io.Writer
	terminal bool
	last     time.Time
	shown    bool
}

const (
	progressTerminalPeriod = 500 * time.Millisecond
	progressPeriod         = 5 * time.Second
)

func newProgress(w io.Writer, began time.Time) *progress {
	return &progress{w: w, terminal: isTerminal(w), last: began}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// show is called now and then with the bytes read and the bytes to read.
func (p *progress) show(done, total int64) {
	period := progressPeriod
	if p.terminal {
		period = progressTerminalPeriod
	}
	if now := time.Now(); now.Sub(p.last) >= period {
		p.last = now
	} else {
		return
	}
	line := fmt.Sprintf("%s of %s read (%d %%)", bytesText(done), bytesText(total),
		done*100/max(total, 1))
	if p.terminal {
		_, _ = fmt.Fprintf(p.w, "\r\x1b[K%s", line)
		p.shown = true
		return
	}
	_, _ = fmt.Fprintln(p.w, line)
}

// clear takes the line away.
func (p *progress) clear() {
	if p.shown {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// bytesText is a number of bytes for people.
func bytesText(n int64) string {
	const kib = 1 << 10
	switch {
	case n < kib:
		return fmt.Sprintf("%d B", n)
	case n < kib*kib:
		return fmt.Sprintf("%.1f KiB", float64(n)/kib)
	case n < kib*kib*kib:
		return fmt.Sprintf("%.1f MiB", float64(n)/(kib*kib))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(kib*kib*kib))
}
