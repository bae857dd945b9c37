package sim_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"
)

// trace is the hash of everything that happens in a run. With a writer it also writes a readable
// line for each event; a run that failed is repeated with one.
type trace struct {
	clock *clock
	hash  uint64
	out   io.Writer
}

// note adds an event: what happened, on which node (0 = none), in which group (0 = none).
func (t *trace) note(what string, node, group uint64, values ...uint64) {
	h := mix(mix(mix(t.hash, uint64(t.clock.now)), hashString(what)), node<<32|group)
	for _, v := range values {
		h = mix(h, v)
	}
	t.hash = h
	if t.out != nil {
		fmt.Fprintf(t.out, "%12.6f n%d g%d %s %d\n", seconds(t.clock.now), node, group, what,
			slices.Clone(values)) // so that values stay on the stack of the caller
	}
}

// say writes a line that is no part of the hash.
func (t *trace) say(format string, args ...any) {
	if t.out != nil {
		fmt.Fprintf(t.out, "%12.6f "+format+"\n", append([]any{seconds(t.clock.now)}, args...)...)
	}
}

func seconds(ns int64) float64 { return time.Duration(ns).Seconds() }

// mix folds a word into a hash that must be equal in every run and process.
func mix(sum, word uint64) uint64 {
	sum = (sum ^ word) * 0xff51afd7ed558ccd
	return sum ^ sum>>32
}

func hashString(s string) uint64 { return hashBytes([]byte(s)) }

func hashBytes(p []byte) uint64 {
	sum := mix(0x9e3779b97f4a7c15, uint64(len(p)))
	for ; len(p) >= 8; p = p[8:] {
		sum = mix(sum, binary.LittleEndian.Uint64(p))
	}
	for _, b := range p {
		sum = mix(sum, uint64(b))
	}
	return sum
}
