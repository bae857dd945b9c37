package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/connectraft/connect/wal"
)

func newStat() *cobra.Command {
	return newInspect("stat", "Print what a log holds", `The segment files with their use, size, live
bytes (entries that a group still has) and frames, the other files, and for each group its first and
last index, commit index, term, vote, bytes, floor (the last index that the superblock knows to have
been durable) and whether it is fenced.`, (*inspection).stat)
}

// otherFile is a file of the log that is no segment.
type otherFile struct {
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
}

// stated is the object of stat --json.
type stated struct {
	verified
	OtherFiles []otherFile `json:"other_files"`
}

func (n *inspection) stat() error {
	r, err := n.read(nil)
	if err != nil {
		return err
	}
	others, err := otherFiles(n.dir)
	if err != nil {
		return err
	}
	if n.json {
		if err := n.printJSON(stated{n.verified(r), others}); err != nil {
			return err
		}
		return verdict(r)
	}
	printDamage(n.OutOrStdout(), r)
	n.printf("cluster %q, node %d, incarnation %d\n", r.ClusterID, r.NodeID, r.Incarnation)
	n.printFloor(r)
	n.printf("%s in segments, %s live\n\n", bytesText(r.DiskBytes), bytesText(r.LiveBytes))
	n.printFiles(r, others)
	n.printf("\n")
	n.printGroups(r)
	return verdict(r)
}

// otherFiles lists what is in the directory besides segments.
func otherFiles(dir string) ([]otherFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	others := []otherFile{}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".wal") {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // it went while we looked
		}
		if err != nil {
			return nil, err
		}
		others = append(others, otherFile{entry.Name(), info.Size()})
	}
	return others, nil
}

// table writes aligned columns; rows end with a tab and a newline.
func (n *inspection) table(rows func(line func(cells ...any))) {
	w := tabwriter.NewWriter(n.OutOrStdout(), 0, 0, 2, ' ', tabwriter.AlignRight)
	rows(func(cells ...any) {
		for _, cell := range cells {
			_, _ = fmt.Fprintf(w, "%v\t", cell)
		}
		_, _ = fmt.Fprintln(w)
	})
	_ = w.Flush()
}

func (n *inspection) printFiles(r *wal.Report, others []otherFile) {
	n.table(func(line func(cells ...any)) {
		line("FILE", "USE", "BYTES", "LIVE", "FRAMES", "END")
		for _, s := range r.Segments {
			line(s.File, s.Use, s.Bytes, s.LiveBytes, s.Frames, s.End)
		}
		for _, o := range others {
			line(o.File, "-", o.Bytes, "-", "-", "-")
		}
	})
}

func (n *inspection) printGroups(r *wal.Report) {
	n.table(func(line func(cells ...any)) {
		line("GROUP", "FIRST", "LAST", "COMMIT", "TERM", "VOTE", "BYTES", "FLOOR", "FENCED")
		for _, g := range r.Groups {
			line(g.Group, g.FirstIndex, g.LastIndex, g.Commit, g.Term, g.Vote, g.Bytes, g.Floor,
				g.Fenced)
		}
	})
}
