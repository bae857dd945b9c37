package bench

import "github.com/connectraft/connect/internal/replica"

var Packs, Cmds, Turns, Readys, Passes, Rounds = &replica.Packs, &replica.Cmds, &replica.Turns, &replica.Readys, &replica.Passes, &replica.Rounds
