package main

import (
	"github.com/spf13/cobra"

	"github.com/connectraft/connect/wal"
)

func newVerify() *cobra.Command {
	return newInspect("verify", "Say whether a log is whole", `Every checksum is computed, of
frames and of each entry; frames must follow each other without a gap; and nothing may be missing
that the superblock knows to have been durable. The log is judged by the code by which a node opens
it. For each damage there is a line with file, offset, group, lost entries, and what was expected
and found. A bad place by which no group has lost anything is told, but is no damage.`,
		(*inspection).verify)
}

// verified is the object of verify --json.
type verified struct {
	Dir     string  `json:"dir"`
	Whole   bool    `json:"whole"`
	Seconds float64 `json:"seconds"`
	*wal.Report
}

func (n *inspection) verified(r *wal.Report) verified {
	return verified{Dir: n.dir, Whole: r.Whole(), Seconds: n.took.Seconds(), Report: r}
}

func (n *inspection) verify() error {
	r, err := n.read(nil)
	if err != nil {
		return err
	}
	if n.json {
		if err := n.printJSON(n.verified(r)); err != nil {
			return err
		}
		return verdict(r)
	}
	printDamage(n.OutOrStdout(), r)
	n.printf("%d frames with %d entries of %d groups in %d segments\n", r.Frames, r.Entries,
		len(r.Groups), len(r.Segments))
	n.printFloor(r)
	n.printf("%s in %.2f s, %s/s\n", bytesText(r.ReadBytes), n.took.Seconds(),
		bytesText(int64(float64(r.ReadBytes)/max(n.took.Seconds(), 1e-6))))
	if r.Whole() {
		n.printf("%s is whole\n", n.dir)
	} else {
		n.printf("%s is DAMAGED\n", n.dir)
	}
	return verdict(r)
}

func (n *inspection) printFloor(r *wal.Report) {
	f := r.Floor
	if f == nil {
		n.printf("floor: no valid superblock\n")
		return
	}
	closed := "running or not closed"
	if f.Clean {
		closed = "closed"
	}
	n.printf("floor: frames below %d, to offset %d of %s (superblock %d, %s)\n", f.NextSequence,
		f.Offset, f.File, f.Counter, closed)
	n.printf("the log ends before frame %d\n", r.NextSequence)
}
