package wal_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
)

func inspect(t testing.TB, o wal.Options) *wal.Report {
	t.Helper()
	r, err := wal.Inspect(wal.InspectOptions{FS: o.FS, Dir: o.Dir})
	if err != nil {
		t.Fatalf("inspect: %v", err)
	}
	return r
}

// inspectedLog is closed, with several segments, two groups, a mark, a compaction and a removal.
func inspectedLog(t testing.TB, o wal.Options) {
	t.Helper()
	l := open(t, o)
	mustAppend(t, l, wal.Update{Group: 2, Mark: &wal.Mark{Index: 10, Term: 3},
		Entries: entries(2, 11, 15, 3, 50)})
	mustAppend(t, l, wal.Update{Group: 3, Entries: entries(3, 1, 2, 1, 50)})
	appendEach(t, l, 1, 1, 60, 1, 200)
	mustAppend(t, l, wal.Update{Group: 1, Entries: entries(1, 58, 64, 2, 200)})
	if err := l.Compact(1, 4); err != nil {
		t.Fatal(err)
	}
	if err := l.RemoveGroup(3); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
}

func TestInspectReport(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	inspectedLog(t, o)
	operations, fingerprint := fs.Operations(), fs.Fingerprint()
	sequence, count := uint64(1), uint64(0)
	seen := make(map[uint64]string)
	r, err := wal.Inspect(wal.InspectOptions{FS: fs, Dir: o.Dir, Visit: func(f *wal.Frame) error {
		if f.Sequence != sequence || f.Condition != wal.FrameWhole {
			t.Errorf("frame %+v, want sequence %d", f, sequence)
		}
		sequence++
		for i, e := range f.Entries {
			count++
			if e.Index != f.FirstIndex+uint64(i) {
				t.Errorf("entry %d in a frame from %d on", e.Index, f.FirstIndex)
			}
			if f.Group == 1 {
				seen[e.Index] = string(e.Data)
			}
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if fs.Operations() != operations || fs.Fingerprint() != fingerprint || fs.OpenHandles() != 0 {
		t.Error("inspection has changed the file system or left files open")
	}
	if len(r.Damage)+len(r.BadPlaces) != 0 || r.Torn != nil || r.Frames != sequence-1 ||
		r.Entries != count || r.NextSequence != sequence || !r.Floor.Clean {
		t.Errorf("report is %+v", *r)
	}
	want := []wal.GroupReport{
		{Group: 1, FirstIndex: 5, LastIndex: 64, Term: 1, Vote: 1, Commit: 59, Floor: 64},
		{Group: 2, FirstIndex: 11, LastIndex: 15, Floor: 15},
	}
	l := open(t, o)
	for i, g := range l.Stats().Groups {
		want[i].Bytes = g.Bytes
	}
	if len(r.Groups) != 2 || r.Groups[0] != want[0] || r.Groups[1] != want[1] {
		t.Errorf("groups are %+v, want %+v", r.Groups, want)
	}
	if live := l.Stats().LiveBytes; r.LiveBytes != live || len(r.Segments) < 3 {
		t.Errorf("%d live bytes in %d segments, want %d", r.LiveBytes, len(r.Segments), live)
	}
	for i := uint64(1); i <= 64; i++ {
		term := uint64(1)
		if i >= 58 {
			term = 2
		}
		if seen[i] != string(payload(1, i, term, 200)) {
			t.Errorf("entry %d was shown as %q", i, seen[i])
		}
	}
}

// TestInspectAgreesWithOpen spoils a log at many places: the report has damage if and only if Open
// refuses, and looking changes nothing.
func TestInspectAgreesWithOpen(t *testing.T) {
	for name, clean := range map[string]bool{"closed": true, "killed": false} {
		t.Run(name, func(t *testing.T) {
			whole := vfs.NewMem()
			o := testOptions(whole)
			o.SegmentBytes = 4 << 10
			inspectedLog(t, o)
			if !clean {
				l := open(t, o)
				appendEach(t, l, 2, 16, 18, 4, 100)
				crash(whole, l)
			}
			files := append(segmentNames(t, o), "superblock.a", "superblock.b")
			refused, taken := 0, 0
			for _, file := range files {
				o.FS = whole
				image := readFile(t, o, file)
				for at := int64(0); at < int64(len(image)); at += 151 {
					fs := visible(whole)
					o.FS = fs
					writeFile(t, o, file, []byte{image[at] ^ 1<<(at%8)}, at)
					if agree(t, fs, o) {
						taken++
					} else {
						refused++
					}
				}
			}
			if refused < 50 || taken < 50 {
				t.Errorf("%d logs were refused and %d taken", refused, taken)
			}
		})
	}
}

// agree compares the report with what Open says, and returns whether the log was taken.
func agree(t *testing.T, fs *vfs.Mem, o wal.Options) bool {
	t.Helper()
	before := fs.Fingerprint()
	r := inspect(t, o)
	if fs.Fingerprint() != before || fs.OpenHandles() != 0 {
		t.Fatal("inspection has changed the file system or left files open")
	}
	l, err := wal.Open(o)
	if err == nil {
		defer closeLog(t, l)
	} else {
		d := expectDamage(t, err)
		if len(r.Damage) == 0 || *r.Damage[0] != *d && r.Damage[0].Group != d.Group {
			t.Fatalf("open: %v\nreport: %+v", d, r.Damage)
		}
	}
	if (err == nil) != (len(r.Damage) == 0) {
		t.Fatalf("open: %v\nreport: %+v", err, r.Damage)
	}
	for _, g := range r.Groups {
		if err == nil && l.Group(g.Group).LastIndex() != g.LastIndex {
			t.Fatalf("group %+v, open has %d", g, l.Group(g.Group).LastIndex())
		}
	}
	return err == nil
}

func TestInspectNamesEveryHole(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	for i := uint64(1); i <= 100; i += 2 {
		mustAppend(t, l, wal.Update{Group: 4, Entries: entries(4, i, i+1, 2, 100)},
			wal.Update{Group: 5, Entries: entries(5, i, i+1, 2, 100)})
	}
	closeLog(t, l)
	var places []string
	for _, index := range []uint64{30, 61, 100} {
		file, _ := flip(t, o, payload(4, index, 2, 100))
		places = append(places, file)
	}
	r := inspect(t, o)
	want := [][2]uint64{{29, 30}, {61, 62}, {99, 100}}
	if len(r.Damage) != len(want) || len(r.BadPlaces) != len(want) {
		t.Fatalf("damage %v, bad places %+v", r.Damage, r.BadPlaces)
	}
	for i, d := range r.Damage {
		b := r.BadPlaces[i]
		if d.File != places[i] || d.Group != 4 || d.FirstIndex != want[i][0] ||
			d.LastIndex != want[i][1] || d.Expected == "" || d.Found == "" {
			t.Errorf("damage is %+v", *d)
		}
		if b.File != d.File || b.Offset != d.Offset || b.Group != 4 || b.FirstIndex != want[i][0] ||
			b.LastIndex != want[i][1] || b.Harmless {
			t.Errorf("bad place is %+v", b)
		}
	}
}

// TestInspectTellsHarmless spoils entries that are compacted: the place is told, and is no damage.
func TestInspectTellsHarmless(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	appendEach(t, l, 4, 1, 9, 2, 100)
	if err := l.Compact(4, 5); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	flip(t, o, payload(4, 3, 2, 100))
	r := inspect(t, o)
	if len(r.Damage) != 0 || len(r.BadPlaces) != 1 || !r.BadPlaces[0].Harmless {
		t.Errorf("damage %v, bad places %+v", r.Damage, r.BadPlaces)
	}
}

func TestInspectErrors(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	_, err := wal.Inspect(wal.InspectOptions{FS: fs, Dir: "/missing"})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	inspectedLog(t, o)
	stop, calls := errors.New("enough"), 0
	_, err = wal.Inspect(wal.InspectOptions{FS: fs, Dir: o.Dir, Visit: func(*wal.Frame) error {
		calls++
		return stop
	}})
	if !errors.Is(err, stop) || calls != 1 || fs.OpenHandles() != 0 {
		t.Errorf("%v after %d calls, %d files open", err, calls, fs.OpenHandles())
	}
}

// TestInspectLive looks at a log while it is written, rotated and compacted as fast as it goes: it
// is whole at every look and never behind what was acknowledged before.
func TestInspectLive(t *testing.T) {
	for name, make := range map[string]func() (vfs.FS, string){
		"memory": func() (vfs.FS, string) { return vfs.NewMem(), "/log" },
		"disk":   func() (vfs.FS, string) { return vfs.OS{}, filepath.Join(t.TempDir(), "log") },
	} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(nil)
			o.FS, o.Dir = make()
			o.Inline, o.SegmentBytes = false, 16<<10
			l := open(t, o)
			var acknowledged atomic.Uint64
			pace := appendWhile(t, l, &acknowledged)
			looks, rotations := 0, uint64(100)
			for l.Stats().Rotations < rotations || looks < 50 {
				before := acknowledged.Load()
				r := inspect(t, o)
				looks++
				select {
				case pace <- struct{}{}:
				default:
				}
				for _, g := range r.Groups {
					if g.Group == 1 && g.LastIndex < before {
						t.Fatalf("the log ends at %d, %d was acknowledged before", g.LastIndex, before)
					}
				}
				if len(r.Damage)+len(r.BadPlaces) != 0 {
					t.Fatalf("look %d: damage %v, bad places %+v", looks, r.Damage, r.BadPlaces)
				}
			}
			t.Logf("%d looks during %d rotations", looks, l.Stats().Rotations)
		})
	}
}

// listHook calls listed behind the list with the number of a call.
type listHook struct {
	vfs.FS
	lists  int
	listed func(call int)
}

func (h *listHook) List(dir string) ([]string, error) {
	names, err := h.FS.List(dir)
	h.lists++
	h.listed(h.lists)
	return names, err
}

// TestInspectReadsOldBytesAgain lets a log grow by megabytes behind the survey, which has the first
// one in memory. What follows says that the end of these old bytes was durable; none of it is damage,
// not even for a moment.
func TestInspectReadsOldBytesAgain(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.SegmentBytes = 8 << 20
	l := open(t, o)
	appendEach(t, l, 1, 1, 20, 1, 10_000)
	hook := &listHook{FS: o.FS, listed: func(call int) {
		if call == 2 {
			appendEach(t, l, 1, 21, 300, 1, 10_000)
		}
	}}
	next := uint64(1)
	r, err := wal.Inspect(wal.InspectOptions{FS: hook, Dir: o.Dir, Visit: func(f *wal.Frame) error {
		if f.Condition != wal.FrameWhole || f.LastIndex != 0 && f.LastIndex != next {
			t.Errorf("frame %+v, want entry %d", f, next)
		}
		next = max(next, f.LastIndex+1)
		return nil
	}})
	if err != nil || !r.Whole() || r.Groups[0].LastIndex != 300 || hook.lists != 2 {
		t.Fatalf("%v, report %+v after %d lists", err, r, hook.lists)
	}
}

// TestInspectSurveysAgain lets a log move on to other segments while its directory is surveyed.
func TestInspectSurveysAgain(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	appendEach(t, l, 1, 1, 20, 1, 300)
	hook := &listHook{FS: o.FS, listed: func(call int) {
		if call > 3 {
			return // the third survey is the first one in peace
		}
		last := l.Group(1).LastIndex()
		appendEach(t, l, 1, last+1, last+50, 1, 300)
		if err := l.Compact(1, last+45); err != nil {
			t.Fatal(err)
		}
	}}
	r, err := wal.Inspect(wal.InspectOptions{FS: hook, Dir: o.Dir})
	if err != nil || !r.Whole() || r.Groups[0].LastIndex != 170 || r.Groups[0].FirstIndex != 166 {
		t.Fatalf("%v, report %+v", err, r)
	}
	if hook.lists != 6 {
		t.Errorf("%d lists, want 6", hook.lists)
	}
	hook.listed = func(int) {
		last := l.Group(1).LastIndex()
		appendEach(t, l, 1, last+1, last+50, 1, 300)
		if err := l.Compact(1, last+45); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := wal.Inspect(wal.InspectOptions{FS: hook, Dir: o.Dir}); err == nil && !r.Whole() {
		t.Errorf("a log that never holds still is damaged: %+v", r.Damage)
	}
}

// TestInspectFindsDamageLive spoils an old segment of a log that is being written.
func TestInspectFindsDamageLive(t *testing.T) {
	o := testOptions(vfs.OS{})
	o.Dir, o.Inline, o.SegmentBytes = filepath.Join(t.TempDir(), "log"), false, 16<<10
	l := open(t, o)
	appendEach(t, l, 9, 1, 100, 1, 300)
	file, _ := flip(t, o, payload(9, 10, 1, 300))
	var acknowledged atomic.Uint64
	pace := appendWhile(t, l, &acknowledged)
	for range 20 {
		r := inspect(t, o)
		select {
		case pace <- struct{}{}:
		default:
		}
		if len(r.Damage) != 1 || r.Damage[0].File != file || r.Damage[0].Group != 9 ||
			r.Damage[0].FirstIndex != 10 || r.Damage[0].LastIndex != 10 {
			t.Fatalf("damage is %v", r.Damage)
		}
	}
}

// appendWhile writes to group 1 until the test ends, and keeps its log short. Every 20 rotations it
// waits for pace: a log in memory rotates more often than anybody can list it.
func appendWhile(t *testing.T, l *wal.Log, acknowledged *atomic.Uint64) (pace chan struct{}) {
	pace = make(chan struct{}, 1)
	stop, writer := make(chan struct{}), new(sync.WaitGroup)
	t.Cleanup(func() {
		close(stop)
		writer.Wait()
	})
	writer.Go(func() {
		paced := l.Stats().Rotations + 20
		for i := uint64(1); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			u := wal.Update{Group: 1, State: &wal.State{Term: 1, Vote: 1, Commit: i - 1},
				Entries: entries(1, i, i, 1, int(i*131%3000))}
			err := l.Append([]wal.Update{u}, true)
			if err == nil && i%16 == 0 {
				err = l.Compact(1, i-8)
			}
			if err != nil {
				t.Errorf("append: %v", err)
				return
			}
			acknowledged.Store(i)
			if l.Stats().Rotations < paced {
				continue
			}
			paced += 20
			select {
			case <-pace:
			case <-stop:
				return
			}
		}
	})
	return pace
}

func TestInspectTorn(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l := open(t, o)
	appendEach(t, l, 1, 1, 10, 1, 700)
	crash(fs, l)
	file, _ := flip(t, o, payload(1, 10, 1, 700))
	var last wal.Frame
	r, err := wal.Inspect(wal.InspectOptions{FS: fs, Dir: o.Dir, Visit: func(f *wal.Frame) error {
		last = *f
		return nil
	}})
	if err != nil || len(r.Damage)+len(r.BadPlaces) != 0 || r.Groups[0].LastIndex != 9 {
		t.Fatalf("%v, %+v", err, r)
	}
	if r.Torn == nil || r.Torn.File != file || r.Torn.FirstIndex != 10 ||
		last.Condition != wal.FrameTorn || !strings.Contains(last.Problem, "behind the end") {
		t.Errorf("torn is %+v, the last frame %+v", r.Torn, last)
	}
}

// A segment that nobody needs any more is written over while it is read: what its reader finds there
// is not shown as damage.
func TestInspectShowsNoDamageInASegmentThatWent(t *testing.T) {
	o := testOptions(vfs.NewMem())
	l := open(t, o)
	appendEach(t, l, 1, 1, 200, 1, 300)
	before := len(segmentNames(t, o))
	went := false
	_, err := wal.Inspect(wal.InspectOptions{FS: o.FS, Dir: o.Dir, Visit: func(f *wal.Frame) error {
		if !went {
			went = true
			if err := l.Compact(1, 199); err != nil {
				return err
			}
			appendEach(t, l, 1, 201, 300, 1, 300)
		}
		if f.Condition == wal.FrameDamaged {
			t.Errorf("shown as damaged: %s at %d: %s", f.File, f.Offset, f.Problem)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if after := len(segmentNames(t, o)); after >= before {
		t.Errorf("%d segments, %d before the compaction: none went", after, before)
	}
	closeLog(t, l)
}
