package torture

import (
	"fmt"
	"strconv"

	"github.com/anishathalye/porcupine"
)

// The models are of one key, with operations as inputs. A key that is not there is the empty value,
// which no client writes. A write whose outcome is unknown returns never, so it may also stand
// behind everything else, where it has no effect: that covers that it was not applied.

func registerModel() porcupine.Model {
	return model("", func(state string, o operation) (bool, string) {
		if o.Kind == set {
			return true, o.Value
		}
		return o.Value == state, state
	})
}

// counterModel: the answer to an increment is the new value.
func counterModel() porcupine.Model {
	return model("", func(state string, o operation) (bool, string) {
		if o.Kind == get {
			return o.Value == state, state
		}
		n, _ := strconv.ParseInt(state, 10, 64) // a counter that is not there begins at 0
		next := strconv.FormatInt(n+1, 10)
		return o.Outcome == unknown || o.Value == next, next
	})
}

func model(begin string, step func(string, operation) (bool, string)) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return begin },
		Step: func(state, input, _ any) (bool, any) {
			return step(state.(string), input.(operation))
		},
		DescribeOperation: func(input, _ any) string {
			o := input.(operation)
			return fmt.Sprintf("%s %s %q (%s, %s)", o.Kind, o.Key, o.Value, o.Outcome, o.Via)
		},
		DescribeState: func(state any) string { return strconv.Quote(state.(string)) },
	}
}
