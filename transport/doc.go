// Package transport carries raft messages, opaque requests and snapshot streams between the
// nodes of a cluster over TCP.
//
// Every node dials every peer. A dialled connection carries frames in one direction only, from
// the dialler to the peer, so that the two directions of a pair never wait for each other. There
// are two such connections (lanes) to each peer: votes, heartbeats and read rounds travel on
// one, appends and requests on the other, so that a full pipe of appends never delays the
// messages that keep a leader in office. Each snapshot has a connection of its own.
//
// Sending never blocks. What cannot be sent is dropped and reported through Handler.PeerLost;
// the caller, who knows what was in flight, decides what that means.
//
// The bytes on the wire are described in docs/peer-protocol.md.
package transport
