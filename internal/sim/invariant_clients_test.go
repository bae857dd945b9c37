package sim_test

import (
	"bytes"

	"github.com/connectraft/connect/node"
)

// What clients see is linearizable (thesis sections 3.6.3, 6.3 and 6.4), by the indexes that
// answers carry: an operation that began when another had returned stands behind it in the log,
// and the committed log, applied in order, gives exactly the answers that clients got.

// checkAnswer looks at the end of an operation.
func (o *oracle) checkAnswer(op *op) {
	g := o.group(op.group)
	switch {
	case op.system: // opens a session, and is not in the state
	case op.read && op.outcome == node.Applied:
		if op.fresh.MaxAge != 0 && !op.stale {
			// The host measures the age with its own clock.
			op.floor = g.floorAt(op.began - int64(op.fresh.MaxAge)*105/100)
		}
		if !op.stale && op.result.Index < op.floor {
			o.w.violated("linearizability", "a read of group %d on node %d answers from entry %d; "+
				"entry %d was acknowledged before it began", op.group, op.host, op.result.Index, op.floor)
		}
		if op.result.Index < op.atLeast {
			o.w.violated("linearizability", "a read of group %d on node %d that must reflect entry %d "+
				"answers from entry %d", op.group, op.host, op.atLeast, op.result.Index)
		}
		want := g.cellAt(op.key, op.result.Index)
		if !bytes.Equal(op.result.Answer, want) {
			o.w.violated("linearizability", "a read of group %d on node %d at entry %d answers %x, "+
				"the log gives %x", op.group, op.host, op.result.Index, op.result.Answer, want)
		}
		if !op.stale && op.fresh.MaxAge == 0 {
			g.told(op.result.Index)
		}
	case op.read:
	case op.outcome == node.Applied:
		// A command of a session that was sent again is answered by the entry of the repetition.
		repeated := op.session != nil && op.index < op.result.Index
		if op.index == 0 || op.index != op.result.Index && !repeated {
			o.w.violated("outcome", "command %d of group %d was acknowledged at entry %d, the log has "+
				"it at %d", op.id, op.group, op.result.Index, op.index)
		}
		if op.index <= op.floor {
			o.w.violated("linearizability", "command %d of group %d is entry %d; entry %d was "+
				"acknowledged before it began", op.id, op.group, op.index, op.floor)
		}
		if !bytes.Equal(op.result.Answer, op.reference) {
			o.w.violated("linearizability", "command %d of group %d at entry %d was answered %x, the "+
				"log gives %x", op.id, op.group, op.index, op.result.Answer, op.reference)
		}
		g.told(op.index)
	case op.outcome == node.NotApplied && op.index != 0:
		o.w.violated("outcome", "the client of command %d of group %d is told that it is not applied "+
			"(%v), the log has it at %d", op.id, op.group, op.err, op.index)
	}
}
