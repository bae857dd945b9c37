package torture

import (
	"fmt"
	"testing"
)

func TestValuesAreWholeOrNot(t *testing.T) {
	large := ""
	for i := range 200 {
		name := fmt.Sprintf("r%d.%d", i, i)
		stored := pad(name)
		if got, ok := unpad(stored); !ok || got != name {
			t.Errorf("%s: unpadded to %q, %v", name, got, ok)
		}
		if len(stored) > paddingMax/2 {
			large = stored
		}
	}
	if large == "" {
		t.Fatal("no value is large")
	}
	for _, small := range []string{"", "1", "35"} { // no value, and those of counters
		if got, ok := unpad(small); !ok || got != small {
			t.Errorf("%q: unpadded to %q, %v", small, got, ok)
		}
	}
	for _, broken := range []string{large[:len(large)-1], large + "r", large[:100] + "x" + large[101:],
		" " + large} {
		if _, ok := unpad(broken); ok {
			t.Errorf("%d bytes of %d count as whole", len(broken), len(large))
		}
	}
}
