package wal_test

import (
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/connectraft/connect/internal/vfs"
	"github.com/connectraft/connect/wal"
	"go.etcd.io/raft/v3/raftpb"
)

// benchOptions are the defaults on the file system of the host.
func benchOptions(b *testing.B) wal.Options {
	return wal.Options{FS: vfs.OS{}, Dir: filepath.Join(b.TempDir(), "wal"),
		Identity: wal.Identity{ClusterID: "bench", NodeID: 1}}
}

// device is the yardstick: a plain loop of pwrite and fdatasync into a preallocated file of zeros.
type device struct {
	file     vfs.File
	buf      []byte
	at, size int64
}

func newDevice(b *testing.B, bytes int) *device {
	b.Helper()
	const size = 64 << 20
	f, err := vfs.OS{}.OpenFile(filepath.Join(b.TempDir(), "device"), os.O_RDWR|os.O_CREATE)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	zero := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(zero)) {
		if _, err := f.WriteAt(zero, at); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	d := &device{file: f, buf: make([]byte, bytes), size: size}
	for i := range d.buf {
		d.buf[i] = byte(i * 7)
	}
	return d
}

func (d *device) write(b *testing.B) {
	if d.at+int64(len(d.buf)) > d.size {
		d.at = 0
	}
	if _, err := d.file.WriteAt(d.buf, d.at); err != nil {
		b.Fatal(err)
	}
	d.at += int64(len(d.buf))
	if err := d.file.SyncData(); err != nil {
		b.Fatal(err)
	}
}

func percentile(times []time.Duration, p float64) time.Duration {
	slices.Sort(times)
	return times[int(p*float64(len(times)-1))]
}

func sum(times []time.Duration) (total time.Duration) {
	for _, t := range times {
		total += t
	}
	return total
}

// BenchmarkAppend appends rounds of one packed entry with a sync, in turn with the device writing
// as many bytes. The log compacts as it goes, so it also rotates, prepares and removes segments.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{512, 4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			l, err := wal.Open(benchOptions(b))
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			d := newDevice(b, size)
			data := make([]byte, size-128-16) // one frame of the same size
			var mine, plain []time.Duration
			index := uint64(0)
			for b.Loop() {
				start := time.Now()
				d.write(b)
				plain = append(plain, time.Since(start))
				index++
				e := &raftpb.Entry{Term: new(uint64(1)), Index: new(index), Data: data}
				u := []wal.Update{{Group: 1, Entries: []*raftpb.Entry{e}}}
				start = time.Now()
				err := l.Append(u, true)
				mine = append(mine, time.Since(start))
				if err != nil {
					b.Fatal(err)
				}
				if index%256 == 0 {
					if err := l.Compact(1, index-64); err != nil {
						b.Fatal(err)
					}
				}
			}
			report(b, size, mine, plain)
		})
	}
}

func report(b *testing.B, size int, mine, plain []time.Duration) {
	mb := float64(size) * float64(len(mine)) / 1e6
	b.ReportMetric(mb/sum(mine).Seconds(), "log-MB/s")
	b.ReportMetric(mb/sum(plain).Seconds(), "device-MB/s")
	b.ReportMetric(100*sum(plain).Seconds()/sum(mine).Seconds(), "%-of-device")
	b.ReportMetric(float64(percentile(mine, 0.5).Microseconds()), "log-p50-µs")
	b.ReportMetric(float64(percentile(plain, 0.5).Microseconds()), "device-p50-µs")
	b.ReportMetric(percentile(mine, 0.5).Seconds()/percentile(plain, 0.5).Seconds(), "p50-ratio")
	b.ReportMetric(float64(percentile(mine, 0.99).Microseconds()), "log-p99-µs")
	b.ReportMetric(float64(percentile(plain, 0.99).Microseconds()), "device-p99-µs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRotation reports the slowest appends that began a segment in units of the median sync.
func BenchmarkRotation(b *testing.B) {
	o := benchOptions(b)
	l, err := wal.Open(o)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	d := newDevice(b, 256<<10)
	data := make([]byte, 256<<10-128-16)
	var rotations, others, plain []time.Duration
	index := uint64(0)
	for b.Loop() {
		start := time.Now()
		d.write(b)
		plain = append(plain, time.Since(start))
		index++
		before := l.Stats().Rotations
		e := &raftpb.Entry{Term: new(uint64(1)), Index: new(index), Data: data}
		start = time.Now()
		err := l.Append([]wal.Update{{Group: 1, Entries: []*raftpb.Entry{e}}}, true)
		took := time.Since(start)
		if err != nil {
			b.Fatal(err)
		}
		if l.Stats().Rotations > before {
			rotations = append(rotations, took)
		} else {
			others = append(others, took)
		}
		if index%64 == 0 {
			if err := l.Compact(1, index-32); err != nil {
				b.Fatal(err)
			}
		}
	}
	if len(rotations) == 0 || len(others) == 0 {
		return
	}
	b.ReportMetric(float64(len(rotations)), "rotations")
	median := percentile(others, 0.5).Seconds()
	b.ReportMetric(percentile(rotations, 0.5).Seconds()/median, "rotation-p50/p50")
	b.ReportMetric(percentile(rotations, 1).Seconds()/median, "rotation-max/p50")
	b.ReportMetric(percentile(others, 0.99).Seconds()/median, "other-p99/p50")
	b.ReportMetric(percentile(plain, 0.99).Seconds()/percentile(plain, 0.5).Seconds(), "device-p99/p50")
}

// BenchmarkAppendAllocs appends without a sync, so what is left is the log's own work. Entries belong
// to the log once appended, so each append needs one of its own; they come from slabs.
func BenchmarkAppendAllocs(b *testing.B) {
	for _, size := range []int{256, 64 << 10} {
		b.Run(fmt.Sprintf("entry=%d", size), func(b *testing.B) { appendSlabs(b, size) })
	}
}

func appendSlabs(b *testing.B, size int) {
	l, err := wal.Open(benchOptions(b))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	const slab = 4096
	data, term := make([]byte, size), new(uint64(1))
	updates, list := make([]wal.Update, 1), []*raftpb.Entry(nil)
	b.ReportAllocs()
	last := uint64(0)
	for b.Loop() {
		if last%slab == 0 {
			entries, indexes := make([]raftpb.Entry, slab), make([]uint64, slab)
			list = make([]*raftpb.Entry, slab)
			for i := range list {
				indexes[i] = last + uint64(i) + 1
				list[i] = &entries[i]
				list[i].Term, list[i].Index, list[i].Data = term, &indexes[i], data
			}
			if err := l.Compact(1, last); err != nil {
				b.Fatal(err)
			}
		}
		at := last % slab
		updates[0] = wal.Update{Group: 1, Entries: list[at : at+1]}
		if err := l.Append(updates, false); err != nil {
			b.Fatal(err)
		}
		last++
	}
}

// benchLog writes a log of so many bytes and returns its options.
func benchLog(b *testing.B, total, size int) (wal.Options, uint64) {
	b.Helper()
	o := benchOptions(b)
	o.CacheBytes = 1
	l, err := wal.Open(o)
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * 31)
	}
	index, term := uint64(0), new(uint64(1))
	for done := 0; done < total; {
		u := wal.Update{Group: 1}
		for range max((1<<20)/size, 1) {
			index++
			u.Entries = append(u.Entries, &raftpb.Entry{Term: term, Index: new(index), Data: data})
			done += size
		}
		if err := l.Append([]wal.Update{u}, false); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	return o, index
}

// BenchmarkRecovery opens a log of 1 GiB, in turn with a plain pass over its files that reads them
// and computes their CRC32C.
func BenchmarkRecovery(b *testing.B) {
	for _, size := range []int{256, 4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("entry=%d", size), func(b *testing.B) {
			o, last := benchLog(b, 1<<30, size)
			var mine, plain time.Duration
			for b.Loop() {
				start := time.Now()
				readAll(b, o.Dir)
				plain += time.Since(start)
				start = time.Now()
				l, err := wal.Open(o)
				mine += time.Since(start)
				if err != nil || l.Group(1).LastIndex() != last {
					b.Fatal(err)
				}
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(mine.Seconds()/float64(b.N), "open-s")
			b.ReportMetric(plain.Seconds()/float64(b.N), "read+crc-s")
			b.ReportMetric(mine.Seconds()/plain.Seconds(), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// readAll reads the segments and sums them up.
func readAll(b *testing.B, dir string) uint32 {
	names, err := vfs.OS{}.List(dir)
	if err != nil {
		b.Fatal(err)
	}
	sum, table, buf := uint32(0), crc32.MakeTable(crc32.Castagnoli), make([]byte, 1<<20)
	for _, name := range names {
		if !strings.HasSuffix(name, ".wal") {
			continue
		}
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		for {
			n, err := f.Read(buf)
			sum = crc32.Update(sum, table, buf[:n])
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		f.Close()
	}
	return sum
}

// BenchmarkRead reads runs of 1 MiB of entries that are not in the cache.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{128, 4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("entry=%d", size), func(b *testing.B) {
			o, last := benchLog(b, 128<<20, size)
			l, err := wal.Open(o)
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			g := l.Group(1)
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			lo := uint64(1)
			for b.Loop() {
				list, err := g.Entries(lo, last+1, 1<<20+32)
				if err != nil {
					b.Fatal(err)
				}
				if lo += uint64(len(list)); lo+uint64(len(list)) > last {
					lo = 1
				}
			}
		})
	}
}
