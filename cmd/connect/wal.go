package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

func newWAL() *cobra.Command {
	c := family("wal", "Look at the write-ahead log of a node")
	c.Long = c.Short + `.

DIR is the data directory of a node or the directory wal in it. The node may run: files are opened
for reading only, no lock is taken, and nothing is created or changed.`
	c.AddCommand(newDump(), newVerify(), newStat())
	return c
}

// inspection is one call of a wal command.
type inspection struct {
	*cobra.Command
	json bool
	dir  string
	took time.Duration
}

// newInspect makes a wal command; do is run with the directory of the log.
func newInspect(use, short, long string, do func(*inspection) error) *cobra.Command {
	n := &inspection{}
	n.Command = &cobra.Command{Use: use + " DIR", Short: short, Args: cobra.ExactArgs(1),
		Long: short + ".\n\n" + long + `

DIR is the data directory of a node or the directory wal in it. The node may run.
Exit codes: 0 the log is whole, 1 it is damaged, 2 it cannot be read.`,
		RunE: func(_ *cobra.Command, args []string) error {
			var err error
			if n.dir, err = logDir(args[0]); err != nil {
				return err
			}
			return do(n)
		}}
	n.Flags().BoolVar(&n.json, "json", false, "print JSON")
	return n.Command
}

// logDir finds the log in a directory: itself, or wal in it.
func logDir(dir string) (string, error) {
	for _, d := range []string{dir, filepath.Join(dir, "wal")} {
		entries, err := os.ReadDir(d)
		if d != dir && errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return "", err
		}
		for _, entry := range entries {
			name := entry.Name()
			if !entry.IsDir() && (strings.HasSuffix(name, ".wal") ||
				strings.HasPrefix(name, "superblock.")) {
				return d, nil
			}
		}
	}
	return "", fmt.Errorf("there is no log in %s", dir)
}

// read reads the log.
func (n *inspection) read(visit func(*wal.Frame) error) (*wal.Report, error) {
	began := time.Now()
	p := newProgress(n.ErrOrStderr(), began)
	r, err := wal.Inspect(wal.InspectOptions{FS: vfs.OS{}, Dir: n.dir, Visit: visit,
		Progress: p.show})
	p.clear()
	n.took = time.Since(began)
	return r, err
}

// printJSON writes a value in one line.
func (n *inspection) printJSON(v any) error {
	return json.NewEncoder(n.OutOrStdout()).Encode(v)
}

// printf writes to stdout; what goes wrong shows when the buffer is flushed.
func (n *inspection) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(n.OutOrStdout(), format, args...)
}

// verdict is the error for the exit code.
func verdict(r *wal.Report) error {
	if !r.Whole() {
		return errBad
	}
	return nil
}

// printDamage writes a line for everything that is wrong.
func printDamage(w io.Writer, r *wal.Report) {
	for _, d := range r.Damage {
		_, _ = fmt.Fprintf(w, "DAMAGE: %s\n", strings.TrimPrefix(d.Error(), "wal: damage in "))
	}
	for _, b := range r.BadPlaces {
		if cited(r, b) {
			continue
		}
		_, _ = fmt.Fprintf(w, "bad place: %s at offset %d: %s: expected %s, found %s\n", b.File,
			b.Offset, consequence(b), b.Expected, b.Found)
	}
	if t := r.Torn; t != nil {
		_, _ = fmt.Fprintf(w, "behind the end: %s at offset %d: a write under way, or torn by a "+
			"crash; nothing of it was acknowledged\n", t.File, t.Offset)
	}
}

// cited says whether a damage names the place already.
func cited(r *wal.Report, b wal.BadPlace) bool {
	for _, d := range r.Damage {
		if d.File == b.File && d.Offset == b.Offset {
			return true
		}
	}
	return false
}

func consequence(b wal.BadPlace) string {
	what := "frames"
	if b.Group != 0 {
		what = fmt.Sprintf("a frame of group %d", b.Group)
	}
	if b.LastIndex != 0 {
		what += fmt.Sprintf(" with entries %d to %d", b.FirstIndex, b.LastIndex)
	}
	if b.Harmless {
		return what + ", and nothing is lost by it"
	}
	return what
}
