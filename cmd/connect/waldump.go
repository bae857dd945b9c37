package main

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/connectraft/connect/wal"
)

// dump prints frames.
type dump struct {
	*inspection
	group, from, to uint64
	data            string
}

// Values of --data.
const (
	dataQuoted = "quoted"
	dataHex    = "hex"
)

func newDump() *cobra.Command {
	d := &dump{}
	c := newInspect("dump", "Print every frame of a log", `One line for each frame: segment file,
offset and length in bytes, sequence, kind, group, indexes and terms of its entries, the group's
term/vote/commit behind it, and its condition: whole, damaged, or torn (behind the end of the log,
which is no damage). A place without a readable header has "?" for its kind, and is always shown.
What is damaged is told on stderr at the end.`,
		func(n *inspection) error {
			d.inspection = n
			return d.run()
		})
	f := c.Flags()
	f.Uint64Var(&d.group, "group", 0, "only frames of this group")
	f.Uint64Var(&d.from, "from", 0, "only frames with entries of this `index` or above")
	f.Uint64Var(&d.to, "to", 0, "only frames with entries of this `index` or below")
	f.StringVar(&d.data, "data", "",
		"show the entries, with their data `quoted|hex` (JSON: always hex)")
	f.Lookup("data").NoOptDefVal = dataQuoted
	return c
}

const dumpFormat = "%-20s %10v %9v %9v %-10s %6v %-17s %-9s %-17s %s\n"

func (d *dump) run() error {
	if d.data != "" && d.data != dataQuoted && d.data != dataHex {
		return fmt.Errorf("--data=%s: want quoted or hex", d.data)
	}
	if !d.json {
		d.printf(dumpFormat, "SEGMENT", "OFFSET", "LENGTH", "SEQUENCE", "KIND", "GROUP", "ENTRIES",
			"TERMS", "TERM/VOTE/COMMIT", "CONDITION")
	}
	r, err := d.read(d.visit)
	if err != nil {
		return err
	}
	printDamage(d.ErrOrStderr(), r)
	return verdict(r)
}

// shown says whether a frame is asked for.
func (d *dump) shown(f *wal.Frame) bool {
	switch {
	case f.Kind == "":
		return true
	case d.group != 0 && f.Group != d.group:
		return false
	case d.from == 0 && d.to == 0:
		return true
	}
	return f.LastIndex != 0 && f.LastIndex >= d.from && (d.to == 0 || f.FirstIndex <= d.to)
}

func (d *dump) visit(f *wal.Frame) error {
	if !d.shown(f) {
		return nil
	}
	if d.json {
		return d.printJSON(d.jsonFrame(f))
	}
	kind, condition := f.Kind, f.Condition
	if kind == "" {
		kind = "?"
	}
	if f.Problem != "" {
		condition += ": " + f.Problem
	}
	state := fmt.Sprintf("%d/%d/%d", f.Term, f.Vote, f.Commit)
	d.printf(dumpFormat, f.File, f.Offset, f.Length, f.Sequence, kind, f.Group,
		span(f.FirstIndex, f.LastIndex), terms(f), state, condition)
	if d.data == "" {
		return nil
	}
	for _, e := range f.Entries {
		text := strconv.Quote(string(e.Data))
		if d.data == dataHex {
			text = hex.EncodeToString(e.Data)
		}
		d.printf("    %d term %d %s %d bytes %s\n", e.Index, e.Term, e.Type, len(e.Data), text)
	}
	return nil
}

// span is a range of numbers, "-" for 0.
func span(first, last uint64) string {
	switch last {
	case 0:
		return "-"
	case first:
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

func terms(f *wal.Frame) string {
	if len(f.Entries) == 0 {
		return "-"
	}
	return span(f.Entries[0].Term, f.Entries[len(f.Entries)-1].Term)
}

// jsonFrame is a line of dump --json.
type jsonFrame struct {
	*wal.Frame
	FirstTerm uint64      `json:"first_term"` // of the entries, 0 without any
	LastTerm  uint64      `json:"last_term"`
	Entries   []jsonEntry `json:"entries,omitempty"`
}

type jsonEntry struct {
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
	Type  string `json:"type"`
	Data  string `json:"data"` // hexadecimal
}

func (d *dump) jsonFrame(f *wal.Frame) jsonFrame {
	j := jsonFrame{Frame: f}
	if n := len(f.Entries); n > 0 {
		j.FirstTerm, j.LastTerm = f.Entries[0].Term, f.Entries[n-1].Term
	}
	if d.data == "" {
		return j
	}
	for _, e := range f.Entries {
		j.Entries = append(j.Entries, jsonEntry{Index: e.Index, Term: e.Term, Type: e.Type.String(),
			Data: hex.EncodeToString(e.Data)})
	}
	return j
}
