package server

import (
	"errors"
	"fmt"

	"github.com/connectraft/connect/internal/wire"
	"github.com/connectraft/connect/node"
)

// failure is what a client is told when its command got no answer of the service. The table in
// doc.go lists all of them for users.
type failure struct {
	status wire.Status
	text   string // of a RESP error; its first word names the kind
}

// failures has the failures that are certain: nothing was applied.
var failures = [...]struct {
	err error
	failure
}{
	{node.ErrSessionExpired, failure{wire.SessionExpired,
		"SESSIONEXPIRED the session is not known any more; not applied by this attempt"}},
	{node.ErrSequenceTooOld, failure{wire.SequenceTooOld,
		"SEQUENCETOOOLD its answer was acknowledged before; this attempt changes nothing"}},
	{node.ErrSessionFull, failure{wire.SessionFull,
		"SESSIONFULL too many answers are not acknowledged; not applied, try again later"}},
	{node.ErrBehind, failure{wire.Behind,
		"BEHIND this node has not applied so much in time; not applied, ask another node"}},
	{node.ErrNoLeader, failure{wire.NoLeader,
		"CLUSTERDOWN no leader in time; not applied, try again"}},
	{node.ErrOverloaded, failure{wire.Overloaded,
		"OVERLOADED too many commands in flight; not applied, try again later"}},
	{node.ErrTooLarge, failure{wire.TooLarge,
		"TOOLARGE the command exceeds limits.command; not applied"}},
	{node.ErrDiskFull, failure{wire.DiskFull,
		"DISKFULL no room for more commands; not applied, reads go on"}},
	{node.ErrClosed, failure{wire.Closed,
		"CLOSED this node is shutting down; not applied, ask another node"}},
	{node.ErrNotAdded, notMember()},
	{node.ErrRemoved, notMember()},
	{node.ErrRefused, notMember()},
	{node.ErrGroupFailed, failure{wire.Failed,
		"FAILED the service stopped on this node, see /status; not applied, ask another node"}},
	{node.ErrGroupRemoved, failure{wire.NoGroup,
		"NOGROUP the group was removed; not applied, and it does not come back"}},
}

func notMember() failure {
	return failure{wire.Closed,
		"CLOSED this node is no member of the cluster, see /readyz; not applied, ask another node"}
}

// failureOf translates an error of the node. address gives the client address of a node.
func failureOf(err error, kind commandKind, address func(id uint64) string) failure {
	for _, f := range failures {
		// An outcome that is not known stays so, whatever else the error tells.
		if errors.Is(err, f.err) && !errors.Is(err, node.ErrUnknown) {
			return f.failure
		}
	}
	if e, ok := errors.AsType[*node.NotLeaderError](err); ok {
		ask := "try again"
		if a := address(e.Leader); a != "" {
			ask = "ask " + a
		}
		return failure{wire.NotLeader, "NOTLEADER this node does not lead; not applied, " + ask}
	}
	if kind == kindRead {
		return failure{wire.Unknown, fmt.Sprintf("UNKNOWN no answer in time: %v", err)}
	}
	return failure{wire.Unknown,
		fmt.Sprintf("UNKNOWN outcome unknown, it may have been applied or may yet be: %v", err)}
}
