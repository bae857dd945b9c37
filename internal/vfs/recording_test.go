package vfs_test

import (
	"bytes"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
)

// workload performs n random steps and calls moment after each.
func workload(t testing.TB, m *vfs.Mem, seed uint64, n int, moment func()) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	files := map[string]vfs.File{}
	for range n {
		name := fmt.Sprintf("/d/%c", 'a'+rng.IntN(4))
		f := files[name]
		if f == nil {
			f = open(t, m, name, create)
			files[name] = f
		}
		switch rng.IntN(10) {
		case 0:
			must(t, m.SyncDir("/d"))
		case 1:
			must(t, m.Remove(name))
			must(t, f.Close())
			delete(files, name)
		case 2:
			target := fmt.Sprintf("/d/%c", 'a'+rng.IntN(4))
			if target != name {
				must(t, m.Rename(name, target))
				must(t, f.Close())
				if old := files[target]; old != nil {
					must(t, old.Close())
				}
				delete(files, name)
				delete(files, target)
			}
		case 3, 4:
			must(t, f.SyncData())
		case 5:
			must(t, f.Truncate(int64(rng.IntN(9000))))
		default:
			data := bytes.Repeat([]byte{byte(rng.Uint32()), byte(rng.Uint32())}, 1+rng.IntN(1500))
			write(t, f, string(data), int64(rng.IntN(6000)))
		}
		moment()
	}
}

// TestReplayEqualsLive compares the images that a replay gives at each position with those that the
// live file system gave at that moment.
func TestReplayEqualsLive(t *testing.T) {
	policy := vfs.ImagePolicy{Seed: 3, Samples: 4, CutsMax: 6, PendingMax: 4}
	for seed := range uint64(8) {
		m := newDir(t)
		workload(t, m, seed+100, 10, func() {}) // The recording starts in the middle of things.
		recording := m.Record()
		live := map[int][]uint64{}
		workload(t, m, seed, 40, func() {
			live[recording.Len()] = fingerprints(m.CrashImages(policy))
		})
		recording.Stop()
		length := recording.Len()
		must(t, m.MkdirAll("/not/recorded"))
		if recording.Len() != length {
			t.Fatal("a stopped recording goes on")
		}
		replay := recording.Replay()
		for {
			want, ok := live[replay.Position()]
			if got := fingerprints(replay.CrashImages(policy)); ok && !slices.Equal(got, want) {
				t.Fatalf("seed %d position %d: %d images differ from the %d live ones",
					seed, replay.Position(), len(got), len(want))
			}
			if !replay.Next() {
				break
			}
		}
		if replay.Position() != length || len(live) < 20 {
			t.Fatalf("replayed %d of %d, compared %d moments", replay.Position(), length, len(live))
		}
	}
}

// TestAllPendingIsWhatIsVisible holds the invariant of the model: durable plus pending is live.
func TestAllPendingIsWhatIsVisible(t *testing.T) {
	for seed := range uint64(50) {
		m := newDir(t)
		lost := 0
		workload(t, m, seed, 60, func() {
			for image := range m.CrashImages(vfs.ImagePolicy{Classes: vfs.ClassAll | vfs.ClassNone}) {
				same := image.FS.Fingerprint() == m.Fingerprint()
				if image.Class == vfs.ClassAll && !same {
					t.Fatalf("seed %d: everything pending is not what was visible", seed)
				}
				if !same {
					lost++
				}
			}
		})
		if lost < 10 {
			t.Fatalf("seed %d: only %d crashes lost something", seed, lost)
		}
	}
}

// TestFileEqualsBytes compares a file with a plain slice of bytes, while images share its memory.
func TestFileEqualsBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	m := newDir(t)
	f := open(t, m, "/d/f", create)
	var want []byte
	for range 2000 {
		size := rng.IntN(20_000)
		switch rng.IntN(6) {
		case 0:
			must(t, f.Truncate(int64(size)))
			want = append(want, make([]byte, max(0, size-len(want)))...)[:size]
		case 1:
			must(t, f.Preallocate(int64(size)))
			want = append(want, make([]byte, max(0, size-len(want)))...)
		case 2:
			m.Crash(rng.Uint64())
			must(t, f.SyncData())
		default:
			data := bytes.Repeat([]byte{byte(rng.IntN(3))}, 1+rng.IntN(9000))
			write(t, f, string(data), int64(size))
			want = append(want, make([]byte, max(0, size+len(data)-len(want)))...)
			copy(want[size:], data)
		}
		if got := read(t, m, "/d/f"); got != string(want) {
			t.Fatalf("%d bytes differ from the %d wanted ones", len(got), len(want))
		}
	}
}

func fingerprints(images iter.Seq[vfs.Image]) []uint64 {
	var sums []uint64
	for image := range images {
		sums = append(sums, image.FS.Fingerprint())
	}
	return sums
}

func BenchmarkCrashImages(b *testing.B) {
	m := newDir(b)
	f := durableFile(b, m, "/d/f", string(make([]byte, 400<<10)))
	write(b, f, string(make([]byte, 4000)), 100_000)
	b.ReportAllocs()
	images := 0
	for b.Loop() {
		for image := range m.CrashImages(vfs.ImagePolicy{}) {
			_ = image.FS.Fingerprint()
			images++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(images), "ns/image")
}
