package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// table aligns columns to the left.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

// line adds a row.
func (t table) line(cells ...any) {
	words := make([]string, len(cells))
	for i, cell := range cells {
		words[i] = fmt.Sprint(cell)
	}
	_, _ = fmt.Fprintln(t.w, strings.Join(words, "\t")) // errors show at flush
}

func (t table) flush() error { return t.w.Flush() }
