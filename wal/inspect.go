package wal

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/connectraft/connect/internal/vfs"
)

// InspectOptions says what [Inspect] looks at. FS and Dir are required.
type InspectOptions struct {
	FS  vfs.FS
	Dir string
	// Visit, if not nil, is called for each frame in the order of the log, and for each place
	// where one should be. An error ends the inspection, which returns it. The frame is valid
	// until Visit returns.
	Visit func(*Frame) error
	// Progress, if not nil, is called after about every 64 MiB read, with the bytes read and the
	// bytes to read.
	Progress func(done, total int64)
}

const (
	// inspectPasses bounds how often a log is read until two passes in a row agree about damage,
	// and surveyTries how often a directory is listed until it holds still for a moment.
	inspectPasses = 6
	surveyTries   = 20
)

// Inspect reads a log, verifies everything in it and says what it holds. It judges by the code
// of Open itself, so that both agree about what is damage. Damage is no error: it stands in the
// report. An error means that the directory could not be read, or comes from Visit.
//
// Inspect opens files for reading only, takes no lock and changes nothing. Another process may
// write the log meanwhile: what is being written is not damage, nor is a segment that goes because
// nobody needs it. To tell these apart, a log that looks damaged is read again, and only what
// is found both times is reported.
func Inspect(o InspectOptions) (*Report, error) {
	report, err := inspectOnce(o)
	o.Visit = nil
	for pass := 1; err == nil && !report.clean(); pass++ {
		var again *Report
		if again, err = inspectOnce(o); err != nil {
			break
		}
		if again.clean() || again.sameAs(report) {
			return again, nil
		}
		if pass == inspectPasses {
			if again.keepConfirmed(report); again.clean() {
				return nil, fmt.Errorf("wal: %s changes faster than it can be read", o.Dir)
			}
			return again, nil
		}
		report = again
	}
	if err != nil {
		return nil, err
	}
	return report, nil
}

// inspection is one reading of a log.
type inspection struct {
	*recovery
	visit  func(*Frame) error
	report Report
	// segments has an element for each segment that frames were seen in.
	segments map[uint64]*SegmentReport
	// told counts the regions that visit knows of; hit are the headers of frames with a bad payload.
	told int
	hit  map[*lostRegion]header
}

// inspectOnce reads the log one time.
func inspectOnce(o InspectOptions) (*Report, error) {
	n, err := beginInspection(o)
	if err != nil {
		return nil, err
	}
	err = n.run()
	if err = closeAfter(err, n.close()); err != nil {
		return nil, err
	}
	return &n.report, nil
}

// beginInspection surveys the directory. While a log is written, names and headers are not from
// one moment, so it looks again until no file has come or gone meanwhile, and what the headers say
// fits together or was so before.
func beginInspection(o InspectOptions) (*inspection, error) {
	before := ""
	for try := 1; ; try++ {
		n := newInspection(o)
		still, err := n.look()
		if err != nil {
			return nil, closeAfter(err, n.close())
		}
		gaps := n.gaps()
		if still && (gaps == "" || gaps == before) || try == surveyTries {
			return n, nil
		}
		before = gaps
		if err := n.close(); err != nil {
			return nil, err
		}
	}
}

func newInspection(o InspectOptions) *inspection {
	l := newLog(Options{FS: readOnlyFS{o.FS}, Dir: o.Dir, Repair: true, Inline: true,
		Progress: o.Progress, Logger: slog.New(slog.DiscardHandler)}, nil)
	n := &inspection{visit: o.Visit, segments: make(map[uint64]*SegmentReport),
		hit: make(map[*lostRegion]header)}
	n.recovery = &recovery{log: l, sequence: 1, live: true,
		replay: &replay{log: l, info: make(map[*Group]*groupReplay), observe: n.observe}}
	return n
}

// look reads the superblock first: what it says was durable before any of the rest is read. It
// reports whether the directory has the same segments before and after.
func (n *inspection) look() (still bool, _ error) {
	var err error
	if n.super, err = n.log.super.open(n.log.o.FS, n.log.o.Dir); err != nil {
		return false, err
	}
	n.survey, err = surveyDir(n.log.o.FS, n.log.o.Dir, n.super, os.O_RDONLY)
	if err != nil {
		return false, err
	}
	names, err := n.log.o.FS.List(n.log.o.Dir)
	if err != nil {
		return false, fmt.Errorf("wal: list %s: %w", n.log.o.Dir, err)
	}
	var before, after []string
	for _, f := range n.files {
		before = append(before, segmentName(f.id))
	}
	for _, name := range names {
		if _, ok := parseSegmentName(name); ok {
			after = append(after, name)
		}
	}
	return slices.Equal(before, after), n.link()
}

// gaps says where the chain of segments is broken, empty if it is not.
func (n *inspection) gaps() string {
	var b strings.Builder
	for i, f := range n.chain {
		if !f.valid || i > 0 && n.chain[i-1].id != f.previous {
			fmt.Fprint(&b, f.id, f.valid, " ")
		}
	}
	return b.String()
}

func (n *inspection) close() error {
	return closeAfter(n.release(), n.log.super.close())
}

// run reads the log as Open with Options.Repair does.
func (n *inspection) run() error {
	if err := n.readChain(); err != nil {
		return err
	}
	if err := n.tellRegions(nil); err != nil {
		return err
	}
	if err := n.decide(); err != nil {
		return err
	}
	if err := n.findTorn(); err != nil {
		return err
	}
	n.fillReport()
	return nil
}
