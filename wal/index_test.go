package wal

import (
	"math/rand/v2"
	"testing"
)

// TestIndexAgainstSlice holds an index against a plain slice of locations, over so many terms and
// segments that the origins are swept many times.
func TestIndexAgainstSlice(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var x index
	x.reset(0)
	want, mark := []location(nil), uint64(0) // want[0] is that of mark+1
	most, entries := 0, 0
	random := func() location {
		if rng.IntN(20) == 0 {
			return location{}
		}
		return location{term: 1 + rng.Uint64N(40), offset: rng.Uint32(), word: rng.Uint32N(1 << 20),
			segment: 1 + rng.Uint32N(10)}
	}
	for step := range 20_000 {
		last := mark + uint64(len(want))
		switch rng.IntN(12) {
		case 0, 1, 2:
			p := random()
			x.push(p)
			want = append(want, p)
		case 3, 4, 5:
			p := random()
			places := make([]location, rng.IntN(50))
			for i := range places {
				if rng.IntN(8) == 0 {
					p.term++
				}
				places[i] = p
			}
			x.pushAll(places, 7)
			for _, p := range places {
				p.segment = 7
				want = append(want, p)
			}
		case 6, 7, 8, 9:
			if len(want) > 0 {
				i := rng.IntN(len(want))
				want[i] = random()
				x.set(mark+1+uint64(i), want[i])
			}
		case 10:
			keep := max(0, len(want)-rng.IntN(60))
			x.truncate(mark + uint64(keep))
			want = want[:keep]
		case 11:
			drop := rng.IntN(40)
			if rng.IntN(200) == 0 {
				drop = len(want) + rng.IntN(5)
			}
			mark += uint64(drop)
			x.compact(mark)
			want = want[min(drop, len(want)):]
		}
		most, entries = max(most, len(x.origins)), max(entries, len(want))
		if last = mark + uint64(len(want)); x.mark != mark || x.last != last {
			t.Fatalf("step %d: the index has (%d, %d], want (%d, %d]", step, x.mark, x.last, mark, last)
		}
		if step%10 == 0 {
			checkIndex(t, &x, want, mark)
		}
	}
	if limit := originsMin + 2*(entries+chunkSlots); most > limit || most < originsMin {
		t.Errorf("up to %d origins of %d entries, want %d to %d", most, entries, originsMin, limit)
	}
}

func checkIndex(t *testing.T, x *index, want []location, mark uint64) {
	t.Helper()
	missing, bytes := uint64(0), map[origin]int64{}
	for i, p := range want {
		at := mark + 1 + uint64(i)
		if got := x.at(at); got != p {
			t.Fatalf("entry %d is at %+v, want %+v", at, got, p)
		}
		if p.missing() && missing == 0 {
			missing = at
		}
		bytes[origin{p.term, p.segment}] += p.size()
	}
	if got := x.nextMissing(mark + 1); got != missing {
		t.Fatalf("entry %d is the first that is missing, want %d", got, missing)
	}
	for i, n := range x.bytesByOrigin() {
		bytes[x.origins[i]] -= n
	}
	for o, n := range bytes {
		if n != 0 {
			t.Fatalf("%d bytes too few of %+v", n, o)
		}
	}
}
