package sim_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/connectraft/connect/node"
)

// A second opinion on the clients' history, by a checker that knows nothing of indexes: each key by
// itself, where an answer tells the version and the value that a command left or a query found.

// porcupineOps bounds the operations on a key about which is asked; the cost grows with the square.
const porcupineOps = 5000

// called is what a client asked for: a command with the value it adds, or a read.
type called struct {
	read  bool
	kind  byte
	value string
}

// keyModel is one cell of the state machine.
func keyModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return string(cell{}.encode()) },
		Step: func(state, input, output any) (bool, any) {
			now, in, out := state.(string), input.(called), output.(string)
			if in.read {
				return out == now, now
			}
			next := leave(now, in)
			return out == next, next
		},
		Equal: func(a, b any) bool { return a.(string) == b.(string) },
		DescribeOperation: func(input, output any) string {
			return fmt.Sprintf("%+v -> %x", input, output)
		},
	}
}

// leave is the cell that a command leaves; machine.Apply, told once more.
func leave(state string, in called) string {
	version, value := binary.LittleEndian.Uint64([]byte(state)), state[8:]
	if in.kind == kindPut || len(value)+len(in.value) > valueBytesMax {
		value = ""
	}
	return string(binary.LittleEndian.AppendUint64(nil, version+1)) + value + in.value
}

// toExplain reports whether an operation is one that porcupine explains: linearizable, and of a client.
func (one *op) toExplain() bool {
	return !one.stale && one.fresh.MaxAge == 0 && !one.watching
}

// checkHistory asks porcupine about every key. A command whose fate its client did not learn counts
// from its beginning on if the log has it, and not at all otherwise.
func (o *oracle) checkHistory() {
	for _, g := range o.groups {
		histories := map[byte][]porcupine.Operation{}
		for _, one := range o.ops {
			if one.group != g.id || one.system || !one.ended || !one.toExplain() {
				continue
			}
			if h, ok := one.history(); ok {
				histories[one.key] = append(histories[one.key], h)
			}
		}
		for key, history := range histories {
			if len(history) > porcupineOps {
				continue // a part of a history would not make sense
			}
			slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
			verdict := porcupine.CheckOperationsTimeout(keyModel(), history, 20*time.Second)
			if verdict != porcupine.Ok {
				o.w.violated("linearizability", "porcupine says %v about key %d of group %d and its %d "+
					"operations", verdict, key, g.id, len(history))
			}
			o.w.stats.judged += len(history)
		}
	}
}

func (one *op) history() (porcupine.Operation, bool) {
	h := porcupine.Operation{ClientId: int(one.id), Call: one.began, Return: one.endedAt}
	if one.read {
		h.Input = called{read: true}
		h.Output = string(one.result.Answer)
		return h, one.outcome == node.Applied
	}
	h.Input = called{kind: one.payload[8], value: string(bytes.Clone(one.payload[commandMin:]))}
	if one.outcome == node.Applied {
		h.Output = string(one.result.Answer)
		return h, true
	}
	// The log says what a command answered whose client has not heard it; without that a few of
	// them give more orders than can be looked at.
	h.Return, h.Output = math.MaxInt64, string(one.reference)
	return h, one.index != 0
}
