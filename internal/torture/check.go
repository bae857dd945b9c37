package torture

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	checkKeyTime = 15 * time.Second // for one key
	checkAllTime = 2 * time.Minute
)

// checkHistories looks for an order of the operations of each key that explains what was seen, and
// writes a page that shows it where there is none. ended says that the histories end with reads of
// the nodes at rest, which counters are held against.
func checkHistories(keys []*key, ended bool, dir string, f *findings) {
	deadline := time.Now().Add(checkAllTime)
	for _, k := range keys {
		if k.exact || k.beacon { // checkLevels judges it
			checkCounter(k, ended, f)
			continue
		}
		model := registerModel()
		if k.counter {
			model = counterModel()
			checkCounter(k, ended, f)
		}
		limit := min(checkKeyTime, time.Until(deadline))
		if limit <= 0 {
			f.doubt("the histories are too long to be checked in %v", checkAllTime)
			return
		}
		result, info := porcupine.CheckOperationsVerbose(model, checkable(k.history), limit)
		switch result {
		case porcupine.Unknown:
			f.doubt("key %s: %d operations could not be checked in %v", k.name, len(k.history), limit)
		case porcupine.Illegal:
			page := filepath.Join(dir, k.name+".html")
			if err := porcupine.VisualizePath(model, info, page); err != nil {
				page = err.Error()
			}
			f.violation("key %s: the history is not linearizable: %s", k.name, page)
		}
	}
}

// checkable leaves out what says nothing: reads without an answer or of the past, and writes that were
// surely not applied. If one of these was, the value that nobody wrote is what gives it away.
func checkable(history []operation) (operations []porcupine.Operation) {
	for _, o := range history {
		if o.Outcome == applied && !o.Level.weak() || o.Outcome == unknown && o.write() {
			operations = append(operations, porcupine.Operation{ClientId: o.Client, Input: o,
				Call: o.Call, Return: o.Return})
		}
	}
	return operations
}

// checkCounter holds the last value against the increments: each acknowledged one counts once, with
// an answer of its own, and an unknown one at most once.
func checkCounter(k *key, ended bool, f *findings) {
	acknowledged, open, last := 0, 0, ""
	answers := map[string]bool{}
	for _, o := range k.history {
		switch {
		case o.Kind == incr && o.Outcome == applied:
			acknowledged++
			if answers[o.Value] {
				f.violation("counter %s: two increments were answered with %s", k.name, o.Value)
			}
			answers[o.Value] = true
		case o.Kind == incr && o.Outcome == unknown:
			open++
		case o.Kind == get && o.Outcome == applied && !o.Level.weak():
			last = o.Value // those of the end come last
		}
	}
	if !ended {
		return
	}
	value := 0
	if last != "" {
		if _, err := fmt.Sscan(last, &value); err != nil {
			f.violation("counter %s: its value is %q", k.name, last)
		}
	}
	if value < acknowledged || value > acknowledged+open {
		f.violation("counter %s is at %d after %d acknowledged increments and %d unknown ones", k.name,
			value, acknowledged, open)
	}
}
