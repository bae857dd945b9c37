// Package server makes a service out of a state machine: a node of the cluster, a listener for
// clients and one for operators, all described by one configuration file.
//
// The shortest service is a struct and a call of [Main]; example/counter shows it whole. A program
// that has more to do than to serve uses [Open] or [Run].
//
// # Clients
//
// The client port speaks two protocols. A connection whose first byte is that of package client's
// binary protocol (docs/protocol.md) speaks it; every other one speaks RESP, the protocol of
// Redis, with arrays or with plain lines of text. Any node takes any command; a follower forwards
// to the leader.
//
// The commands of one RESP connection take effect in the order in which they were sent, also when
// the client does not wait for answers in between (pipelining). Consecutive writes travel
// together, as do consecutive reads; a change from one to the other waits for what is in flight.
//
// SELECT chooses the group that the commands of a connection go to, by its id; they begin with the
// first one, which is 0 and 1. RESP reads are linearizable; package client has the other levels, and
// sessions.
//
// Besides the commands of the service every server answers PING, ECHO, QUIT, SELECT, INFO,
// COMMAND, CONFIG GET, HELLO and CLIENT SETNAME, SETINFO, GETNAME, ID, so that the usual clients
// connect. A command of the service with one of these names takes its place.
//
// # Errors
//
// The first word of a RESP error tells what became of the command:
//
//	ERR          refused, or the service's own answer
//	CLUSTERDOWN  not applied: no leader until the request timeout ended
//	NOTLEADER    not applied: the node that was asked as the leader is not; names the leader
//	OVERLOADED   not applied: too many commands in flight, or, and then the connection is closed,
//	             too many large ones arriving; try again later
//	TOOLARGE     not applied: larger than limits.command
//	DISKFULL     not applied: no room on the leader's disk; reads go on
//	CLOSED       not applied: the node is shutting down, or is no member; ask another
//	FAILED       not applied: the service stopped on this node; ask another
//	NOGROUP      not applied: the group does not run on this node, or was removed
//	UNKNOWN      a write may have been applied, or may yet be; a read was not answered in time
//
// After "ERR Protocol error" the server closes the connection: where the next command begins is
// not known.
//
// # Operators
//
// The admin listener serves /healthz (the process runs), /readyz (it serves clients, or 503 and
// why not), /status (JSON), /metrics (Prometheus) and /debug/pprof, and under /v1/ what the command
// connect asks for: status, members, transfer, drain, groups and events (docs/operations.md). It
// has no authentication; requests of web pages are refused.
package server
