package server

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sync/semaphore"
)

const testBytesMax = 1000

// feed gives the stream to a parser in pieces of step bytes, the way a connection does, and
// returns its commands.
func feed(stream string, step int) (commands [][]string, err error) {
	p := respParser{bytesMax: testBytesMax}
	var buffer []byte
	for len(stream) > 0 {
		n := min(step, len(stream))
		buffer = append(buffer, stream[:n]...)
		stream = stream[n:]
		for {
			words, size, err := p.next(buffer)
			if err != nil {
				return commands, err
			}
			if size == 0 {
				break
			}
			if len(words) > 0 {
				commands = append(commands, texts(words))
			}
			buffer = buffer[size:]
		}
	}
	return commands, nil
}

func texts(words [][]byte) (texts []string) {
	for _, w := range words {
		texts = append(texts, string(w))
	}
	return texts
}

func TestRespCommands(t *testing.T) {
	big := strings.Repeat("b", testBytesMax-3)
	tests := []struct {
		name, stream string
		want         [][]string
	}{
		{"array", "*1\r\n$4\r\nincr\r\n", [][]string{{"incr"}}},
		{"two arrays", "*2\r\n$3\r\nget\r\n$1\r\na\r\n*1\r\n$4\r\nping\r\n",
			[][]string{{"get", "a"}, {"ping"}}},
		{"binary word", "*2\r\n$3\r\nget\r\n$4\r\n\r\n*1\r\n", [][]string{{"get", "\r\n*1"}}},
		{"empty word", "*2\r\n$3\r\nget\r\n$0\r\n\r\n", [][]string{{"get", ""}}},
		{"line with CR", "incr\r\n", [][]string{{"incr"}}},
		{"line without CR", "incr\n", [][]string{{"incr"}}},
		{"line with words", "set  a 1\r\n", [][]string{{"set", "a", "1"}}},
		{"line with quotes", `set a "b c"` + "\r\n", [][]string{{"set", "a", "b c"}}},
		{"empty lines", "\r\n\n\r\nincr\r\n", [][]string{{"incr"}}},
		{"array of nothing", "*0\r\n*-1\r\n*1\r\n$4\r\nincr\r\n", [][]string{{"incr"}}},
		{"array and line", "*1\r\n$1\r\na\r\nb\r\n", [][]string{{"a"}, {"b"}}},
		{"largest", fmt.Sprintf("*2\r\n$3\r\nget\r\n$%d\r\n%s\r\n", len(big), big),
			[][]string{{"get", big}}},
		{"unfinished", "*2\r\n$3\r\nget\r\n$5\r\nab", nil},
		{"zeros in front", "*01\r\n$0004\r\nincr\r\n", [][]string{{"incr"}}},
	}
	for _, test := range tests {
		for _, step := range []int{1, 2, 3, 7, 1 << 20} {
			got, err := feed(test.stream, step)
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("%s by %d bytes: got %q, %v; want %q", test.name, step, got, err, test.want)
			}
		}
	}
}

func TestRespLimitsHoldWhenTheHeaderIsSeen(t *testing.T) {
	const bulk, array = "invalid bulk length", "invalid multibulk length"
	tests := []struct{ name, stream, want string }{
		{"4 GiB word", "*2\r\n$3\r\nget\r\n$4294967296\r\n", bulk},
		{"word over the limit", fmt.Sprintf("*1\r\n$%d\r\n", testBytesMax+1), bulk},
		{"words over the limit together", fmt.Sprintf("*2\r\n$1\r\na\r\n$%d\r\n", testBytesMax), bulk},
		{"negative word", "*1\r\n$-2\r\n", bulk},
		{"null word", "*1\r\n$-1\r\n", bulk},
		{"overflowing word", "*1\r\n$18446744073709551617\r\n", bulk},
		{"no number", "*1\r\n$x\r\n", bulk},
		{"no digits", "*1\r\n$\r\n", bulk},
		{"plus sign", "*1\r\n$+1\r\n", bulk},
		{"endless bulk header", "*1\r\n$" + strings.Repeat("0", 64), bulk},
		{"no CR in bulk header", "*1\r\n$1\n", bulk},
		{"word longer than said", "*1\r\n$1\r\nabc\r\n", bulk},
		{"too many words", fmt.Sprintf("*%d\r\n", wordsMax+1), array},
		{"4 billion words", "*4294967296\r\n", array},
		{"no count", "*\r\n", array},
		{"count is no number", "*x\r\n", array},
		{"endless array header", "*" + strings.Repeat("1", 64), array},
		{"no bulk", "*1\r\n:5\r\n", "expected '$', got ':'"},
		{"bulk alone", "$5 hello\r\n", "expected '*', got '$'"},
		{"endless line", strings.Repeat("x", testBytesMax+1), "too big inline request"},
		{"long line", strings.Repeat("x", testBytesMax+1) + "\n", "too big inline request"},
		{"open quote", "set a \"b\r\n", "unbalanced quotes in request"},
	}
	for _, test := range tests {
		for _, step := range []int{1, 5, 1 << 20} {
			commands, err := feed(test.stream, step)
			if err == nil || err.Error() != "ERR Protocol error: "+test.want || commands != nil {
				t.Errorf("%s by %d bytes: got %q, %v; want %q", test.name, step, commands, err, test.want)
			}
		}
	}
}

// FuzzResp checks that no stream makes the parser panic, and that it does not matter in which
// pieces a stream arrives.
func FuzzResp(f *testing.F) {
	f.Add("*2\r\n$3\r\nget\r\n$1\r\na\r\n", 3)
	f.Add("set a \"b c\"\r\n*-1\r\n\n$", 1)
	f.Fuzz(func(t *testing.T, stream string, step int) {
		whole, wholeErr := feed(stream, len(stream)+1)
		pieces, piecesErr := feed(stream, max(1, step%100))
		if !reflect.DeepEqual(whole, pieces) || (wholeErr == nil) != (piecesErr == nil) {
			t.Fatalf("%q: whole %q, %v; in pieces %q, %v", stream, whole, wholeErr, pieces, piecesErr)
		}
	})
}

func TestRespGarbageNeverPanics(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	alphabet := []byte("*$-10129\r\n\"' xé{\x00")
	for range 50_000 {
		b := make([]byte, random.IntN(40))
		for i := range b {
			b[i] = alphabet[random.IntN(len(alphabet))]
		}
		whole, wholeErr := feed(string(b), 100)
		pieces, piecesErr := feed(string(b), 1+random.IntN(5))
		if !reflect.DeepEqual(whole, pieces) || (wholeErr == nil) != (piecesErr == nil) {
			t.Fatalf("%q: whole %q, %v; in pieces %q, %v", b, whole, wholeErr, pieces, piecesErr)
		}
	}
}

func TestInBufferTakesMemoryAsBytesArrive(t *testing.T) {
	budget := semaphore.NewWeighted(1 << 20)
	in := newInBuffer(budget)
	source := bytes.NewReader(make([]byte, 300_000))
	for in.fill(source) == nil {
	}
	if got := len(in.unused()); got != 300_000 {
		t.Fatalf("%d bytes arrived", got)
	}
	if len(in.b) > 2*300_000 || in.taken != int64(len(in.b)) {
		t.Fatalf("%d bytes taken for 300,000, %d of the budget", len(in.b), in.taken)
	}
	in.use(300_000)
	if err := in.fill(bytes.NewReader([]byte("x"))); err != nil || len(in.b) > inBytesKeep {
		t.Fatalf("%d bytes kept, %v", len(in.b), err)
	}
	if !budget.TryAcquire(1 << 20) {
		t.Fatal("the budget was not given back")
	}
}

func TestInBuffersShareABudget(t *testing.T) {
	budget := semaphore.NewWeighted(256 << 10)
	first, second := newInBuffer(budget), newInBuffer(budget)
	zeros := func(n int) *bytes.Reader { return bytes.NewReader(make([]byte, n)) }
	for source := zeros(200_000); first.fill(source) == nil; {
	}
	var err error
	for source := zeros(200_000); err == nil; {
		err = second.fill(source)
	}
	if err != errNoMemory || len(second.unused()) != inBytesKeep {
		t.Fatalf("%d bytes arrived, then %v", len(second.unused()), err)
	}
	first.release()
	if err := second.fill(zeros(1)); err != nil {
		t.Fatalf("after the first buffer ended: %v", err)
	}
	second.release()
	if !budget.TryAcquire(256 << 10) {
		t.Fatal("the budget was not given back")
	}
}

func TestAnswers(t *testing.T) {
	tests := []struct {
		answer any
		want   string
	}{
		{nil, "$-1\r\n"},
		{1, ":1\r\n"},
		{int64(-5), ":-5\r\n"},
		{uint64(1<<64 - 1), ":18446744073709551615\r\n"},
		{true, ":1\r\n"},
		{false, ":0\r\n"},
		{"text", "$4\r\ntext\r\n"},
		{"", "$0\r\n\r\n"},
		{Simple("OK"), "+OK\r\n"},
		{[]byte("b"), "$1\r\nb\r\n"},
		{[]byte(nil), "$-1\r\n"},
		{[]string{"a", "b"}, "*2\r\n$1\r\na\r\n$1\r\nb\r\n"},
		{[][]byte{[]byte("a"), nil}, "*2\r\n$1\r\na\r\n$-1\r\n"},
		{[]any{1, nil, []any{"x"}}, "*3\r\n:1\r\n$-1\r\n*1\r\n$1\r\nx\r\n"},
		{fmt.Errorf("value is bad"), "-ERR value is bad\r\n"},
		{fmt.Errorf("WRONGTYPE of\r\nvalue"), "-WRONGTYPE of  value\r\n"},
	}
	for _, test := range tests {
		if got, ok := appendAnswer(nil, test.answer); !ok || string(got) != test.want {
			t.Errorf("%#v: got %q, %v; want %q", test.answer, got, ok, test.want)
		}
	}
	for _, answer := range []any{1.5, struct{}{}, map[string]int{}, []any{struct{}{}}} {
		if got, ok := appendAnswer(nil, answer); ok {
			t.Errorf("%#v: got %q, want no form", answer, got)
		}
	}
}

func BenchmarkRespParser(b *testing.B) {
	stream := []byte("*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000042\r\n$3\r\nxxx\r\n")
	p := respParser{bytesMax: 1 << 20}
	b.ReportAllocs()
	for b.Loop() {
		if _, size, err := p.next(stream); size != len(stream) || err != nil {
			b.Fatal(size, err)
		}
	}
}
