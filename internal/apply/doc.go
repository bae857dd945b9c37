// Package apply is the apply stage of one replica: what committed entries do.
//
// A [Stage] holds the state of a group as of one log index: the user's machine, and beside it what
// is replicated with it: the clock, the membership with its directory of addresses, the sessions
// that make commands apply exactly once, and the catalog of groups. The same entries in the same
// order give the same state, the same answers and the same bytes of a snapshot on every replica.
//
// The package has no goroutine, clock or I/O of its own. The node drives a stage from the one
// goroutine that may touch the machine; a simulation drives the very same stage.
//
// # The stream of a snapshot
//
//	┌────────┬───────────┬─────────┬────────────────┬────────────────────┬───────────┐
//	│ format │ directory │ catalog │ sessions: head │ session × sessions │ machine   │
//	│ u8 = 1 │ block     │ block   │ block          │ block each         │ its bytes │
//	└────────┴───────────┴─────────┴────────────────┴────────────────────┴───────────┘
//
// A block is a length (u32, little endian) and so many bytes. The head of the sessions has the id
// of the next session and the number of sessions (uvarint each); the sessions follow from the least to
// the most recently used. The file that holds the stream proves its bytes; nothing here does.
package apply
