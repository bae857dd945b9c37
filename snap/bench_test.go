package snap_test

import (
	"fmt"
	"io"
	"testing"
)

func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{64 << 10, 64 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := open(b, b.TempDir())
			stream := content(1, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				write(b, s, meta(5), stream)
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, size := range []int{64 << 10, 64 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := open(b, b.TempDir())
			write(b, s, meta(5), content(1, size))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				r, err := s.Load(7, 5)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
