// Package client talks to a Connect cluster over its binary protocol.
//
// A [Client] needs the client address of one member or more. It finds the leader by itself, keeps
// one connection to each node it uses, and sends requests of many goroutines over it without
// waiting for answers in between. Open one and share it.
//
// A request that was surely not applied is sent again, to another node where that helps, until its
// context ends. A write whose connection broke after it was sent is not: it may have been applied,
// and only the caller knows whether it can be applied twice. Its error matches [ErrUnknown]. A
// write in a [Session] is sent again in that case too, and applied once.
package client
