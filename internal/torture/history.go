package torture

import (
	"encoding/json"
	"math"
	"time"
)

// clock is the one clock of a run: monotonic, in nanoseconds since the run began.
type clock struct{ began time.Time }

func (c clock) now() int64 { return int64(time.Since(c.began)) }

type kind string

const (
	get  kind = "get"
	set  kind = "set"
	incr kind = "incr"
)

type outcome string

const (
	applied    outcome = "ok"
	notApplied outcome = "not applied" // and never will be
	unknown    outcome = "unknown"     // perhaps, or yet to be
)

// never is the time of return of an operation whose outcome is unknown: it may be applied as late as
// one likes.
const never = math.MaxInt64

// operation is what a client did and saw.
type operation struct {
	Client  int     `json:"client"`
	Via     string  `json:"via"` // the protocol, and for RESP the node that was asked
	Key     string  `json:"key"`
	Kind    kind    `json:"kind"`
	Value   string  `json:"value"` // written by a set, or answered; empty for a key that is not there
	Call    int64   `json:"call"`
	Return  int64   `json:"return"`
	Outcome outcome `json:"outcome"`
	Detail  string  `json:"detail,omitempty"`
	Level   level   `json:"level,omitempty"` // of a read
	Bound   int64   `json:"bound,omitempty"` // of the level: nanoseconds or an index
	Index   int64   `json:"index,omitempty"` // of the log, if the answer names one
}

func (o operation) write() bool { return o.Kind != get }

// line returns the operation as it stands in the history file.
func (o operation) line() []byte {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // it has nothing but texts and numbers
	}
	return append(b, '\n')
}
