// Package wire is what a client and a server of Connect agree on: the frames of the binary client
// protocol and the encoding of a named command. docs/protocol.md describes both for those who
// write a client in another language.
//
// A connection of the binary protocol opens with a preamble from the client. Its first byte,
// [Magic], is no first byte of RESP or of a text line, so one port serves both protocols. After it
// each side sends frames. The client's are requests, the server's are replies; a reply carries the
// id of its request and may come in any order.
//
// All integers are little-endian unless they are varints (encoding/binary's unsigned form).
package wire
