package main

import (
	"strings"
	"testing"
	"time"
)

func TestProgressOfLongReadings(t *testing.T) {
	var out strings.Builder
	p := newProgress(&out, time.Now().Add(-time.Minute))
	p.show(1<<30, 4<<30)
	p.show(2<<30, 4<<30) // too early for another line
	p.clear()
	if out.String() != "1.00 GiB of 4.00 GiB read (25 %)\n" {
		t.Errorf("progress is %q", out.String())
	}
	out.Reset()
	p = newProgress(&out, time.Now())
	p.show(1<<30, 4<<30)
	p.terminal, p.last = true, time.Now().Add(-time.Minute)
	p.show(1<<20, 4<<20)
	p.clear()
	if out.String() != "\r\x1b[K1.0 MiB of 4.0 MiB read (25 %)\r\x1b[K" {
		t.Errorf("progress on a terminal is %q", out.String())
	}
}
