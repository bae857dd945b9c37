package vfs_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/connectraft/connect/internal/vfs"
)

func TestImagesTornWrite(t *testing.T) {
	m := newDir(t)
	f := durableFile(t, m, "/d/f", strings.Repeat("-", 10))
	write(t, f, "abcdefgh", 1)
	got := outcomes(t, m, "/d/f", vfs.ImagePolicy{
		Classes:     vfs.ClassTorn,
		SectorBytes: 4,
		Edges:       func(*vfs.Op) []int { return []int{-3, 5, 99} },
	})
	// Sectors of the file end at 4 and 8, so the write falls into abc, defg and h.
	want := []string{
		"----------", "-a--------", "-abc------", "-abcde----", "-abcdefg--", // cuts
		"-abc----h-", "----defg--", "----defgh-", "--------h-", // sectors
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("torn outcomes\n%q, want\n%q", got, want)
	}
}

func TestImagesManySectorsAreSampled(t *testing.T) {
	m := newDir(t)
	f := durableFile(t, m, "/d/f", "")
	write(t, f, strings.Repeat("x", 100*512), 0)
	count := 0
	policy := vfs.ImagePolicy{Classes: vfs.ClassTorn, CutsMax: 10, Samples: 5}
	for image := range m.CrashImages(policy) {
		count++
		got := read(t, image.FS, "/d/f")
		if got == strings.Repeat("x", 100*512) {
			t.Errorf("%v lost nothing", image)
		}
	}
	if count != 10+3+5 {
		t.Errorf("%d images, want 10 cuts, 3 missing sectors and 5 samples", count)
	}
}

func TestImagesZeroAndStale(t *testing.T) {
	m := newDir(t)
	f := durableFile(t, m, "/d/f", "ab")
	old := durableFile(t, m, "/d/old", "..STALE")
	must(t, old.Close())
	must(t, m.Remove("/d/old"))
	must(t, m.SyncDir("/d"))
	write(t, f, "cdef", 2)
	expectOutcomes(t, m, "/d/f", vfs.ClassZero, "ab\x00\x00\x00\x00")
	expectOutcomes(t, m, "/d/f", vfs.ClassStale, "abSTAL")
	must(t, f.SyncData())
	write(t, f, "CD", 2)
	expectOutcomes(t, m, "/d/f", vfs.ClassZero) // The size was durable already.
}

func TestImagesGarbageStaysInItsWrite(t *testing.T) {
	m := newDir(t)
	f := durableFile(t, m, "/d/f", strings.Repeat("-", 16))
	write(t, f, "abcdef", 5)
	spoilt := 0
	for image := range m.CrashImages(vfs.ImagePolicy{Classes: vfs.ClassGarbage, SectorBytes: 8}) {
		got := read(t, image.FS, "/d/f")
		if got[:5] != "-----" || got[11:] != "-----" {
			t.Errorf("%v: bytes outside of the write changed: %q", image, got)
		}
		if got[5:11] != "abcdef" {
			spoilt++
		}
	}
	if spoilt != 6 {
		t.Errorf("%d spoilt images, want 3 for each of 2 sectors", spoilt)
	}
}

func TestImagesSharedSectorSpoilsDurableBytes(t *testing.T) {
	m := newDir(t)
	f := durableFile(t, m, "/d/f", strings.Repeat("-", 16))
	write(t, f, "abcdef", 5)
	count := 0
	for image := range m.CrashImages(vfs.ImagePolicy{Classes: vfs.ClassSharedSector, SectorBytes: 4}) {
		count++
		want := vfs.LostRange{Name: "d/f", From: 4, To: 5}
		if image.Lost == nil || *image.Lost != want {
			t.Fatalf("lost %v, want %v", image.Lost, want)
		}
		if got := read(t, image.FS, "/d/f"); got[:4] != "----" || got[4:8] == "-abc" {
			t.Errorf("%v: %q", image, got)
		}
	}
	if count != 2 {
		t.Errorf("%d images, want 2", count)
	}
	for image := range m.CrashImages(vfs.ImagePolicy{}) {
		if image.Class == vfs.ClassSharedSector {
			t.Error("the default policy destroys durable bytes")
		}
	}
}

// TestImagesAreIndependent writes into images and looks whether anybody else sees it.
func TestImagesAreIndependent(t *testing.T) {
	m := newDir(t)
	big := strings.Repeat("-", 3*4096)
	f := durableFile(t, m, "/d/f", big)
	write(t, f, "pending", 4090)
	live := read(t, m, "/d/f")
	var images []vfs.Image
	for image := range m.CrashImages(vfs.ImagePolicy{}) {
		images = append(images, image)
	}
	before := make([]uint64, len(images))
	for i, image := range images {
		before[i] = image.FS.Fingerprint()
	}
	write(t, open(t, images[0].FS, "/d/f", create), "spoilt", 4000)
	for i, image := range images {
		if changed := image.FS.Fingerprint() != before[i]; changed != (i == 0) {
			t.Errorf("%v: changed is %t", image, changed)
		}
	}
	if read(t, m, "/d/f") != live {
		t.Error("a write to an image changed the live file")
	}
	write(t, f, "more", 8000)
	for i, image := range images[1:] {
		if image.FS.Fingerprint() != before[i+1] {
			t.Errorf("%v: a live write changed the image", image)
		}
	}
}

// TestImagesOfImage crashes the recovery from a crash.
func TestImagesOfImage(t *testing.T) {
	m := newDir(t)
	write(t, durableFile(t, m, "/d/f", "--"), "a", 0)
	for image := range m.CrashImages(vfs.ImagePolicy{Classes: vfs.ClassNone | vfs.ClassAll}) {
		first := read(t, image.FS, "/d/f")
		write(t, open(t, image.FS, "/d/f", create), "b", 1)
		expectOutcomes(t, image.FS, "/d/f", simpleClasses, first, first[:1]+"b")
	}
}

// TestImagesAreDeterministic builds the same workload twice, with many names, and compares the
// images one by one.
func TestImagesAreDeterministic(t *testing.T) {
	build := func() []uint64 {
		m := newDir(t)
		for i := range 12 {
			f := open(t, m, "/d/"+string(rune('a'+i)), create)
			write(t, f, strings.Repeat("x", 1000*i+1), int64(i))
			if i%3 == 0 {
				must(t, m.Remove("/d/"+string(rune('a'+i))))
			}
		}
		var sums []uint64
		for image := range m.CrashImages(vfs.ImagePolicy{Seed: 7}) {
			sums = append(sums, image.FS.Fingerprint())
		}
		return sums
	}
	first, second := build(), build()
	if len(first) < 50 || !slices.Equal(first, second) {
		t.Errorf("%d and %d images differ", len(first), len(second))
	}
}

func TestFingerprint(t *testing.T) {
	trees := map[string]func(m *vfs.Mem){
		"empty": func(m *vfs.Mem) {},
		"file":  func(m *vfs.Mem) { open(t, m, "/d/f", create) },
		"name":  func(m *vfs.Mem) { open(t, m, "/d/g", create) },
		"byte":  func(m *vfs.Mem) { write(t, open(t, m, "/d/f", create), "a", 0) },
		"place": func(m *vfs.Mem) { write(t, open(t, m, "/d/f", create), "\x00a", 0) },
		"size":  func(m *vfs.Mem) { must(t, open(t, m, "/d/f", create).Truncate(5000)) },
	}
	seen := map[uint64]string{}
	for name, build := range trees {
		m := newDir(t)
		build(m)
		if other, ok := seen[m.Fingerprint()]; ok {
			t.Errorf("%s and %s have one fingerprint", name, other)
		}
		seen[m.Fingerprint()] = name
	}
	changing := newDir(t)
	g := open(t, changing, "/d/f", create)
	for _, data := range []string{"a", "b", "a"} {
		write(t, g, data, 0)
		if same := seen[changing.Fingerprint()] == "byte"; same != (data == "a") {
			t.Errorf("with %q in place the fingerprint is the one of \"a\": %t", data, same)
		}
	}
	zeros := newDir(t)
	f := open(t, zeros, "/d/f", create)
	write(t, f, "a", 4998)
	write(t, f, "\x00\x00", 4998)
	if seen[zeros.Fingerprint()] != "size" {
		t.Error("written zeros and a hole have different fingerprints")
	}
}
