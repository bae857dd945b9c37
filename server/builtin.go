package server

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tidwall/redcon"
)

// builtin appends the answer to a command that every server knows, whatever its service; ok is
// false for any other.
func (c *respConn) builtin(dst []byte, words [][]byte) (_ []byte, ok bool) {
	switch strings.ToLower(string(words[0])) {
	case "ping":
		return appendPing(dst, words), true
	case "echo":
		if len(words) != 2 {
			return redcon.AppendError(dst, wrongArity("echo")), true
		}
		return redcon.AppendBulk(dst, words[1]), true
	case "quit":
		c.closing = true
		return redcon.AppendOK(dst), true
	case "select":
		return c.appendSelect(dst, words), true
	case "command":
		return redcon.AppendArray(dst, 0), true
	case "config":
		return appendConfig(dst, words), true
	case "client":
		return c.appendClient(dst, words), true
	case "hello":
		return c.appendHello(dst, words), true
	case "info":
		return redcon.AppendBulkString(dst, c.server.info()), true
	}
	return dst, false
}

func appendPing(dst []byte, words [][]byte) []byte {
	switch len(words) {
	case 1:
		return redcon.AppendString(dst, "PONG")
	case 2:
		return redcon.AppendBulk(dst, words[1])
	}
	return redcon.AppendError(dst, wrongArity("ping"))
}

// appendSelect chooses the group that the commands behind it go to, by its id. 0, which client
// libraries send, is the first one like 1. What is in flight ends before, so that the commands of a
// connection take effect in their order whatever group they go to.
func (c *respConn) appendSelect(dst []byte, words [][]byte) []byte {
	if len(words) != 2 {
		return redcon.AppendError(dst, wrongArity("select"))
	}
	id, err := strconv.ParseUint(string(words[1]), 10, 64)
	if err != nil {
		return redcon.AppendError(dst, "ERR invalid DB index: want the id of a group")
	}
	group := c.server.groupOf(id)
	if group == nil {
		return redcon.AppendError(dst, noGroup(id))
	}
	if group != c.group {
		c.settle()
		c.group = group
	}
	return redcon.AppendOK(dst)
}

// appendConfig answers CONFIG GET with an empty value: redis-benchmark asks before it begins.
func appendConfig(dst []byte, words [][]byte) []byte {
	if len(words) != 3 || !strings.EqualFold(string(words[1]), "get") {
		return redcon.AppendError(dst, "ERR only CONFIG GET with one name is supported")
	}
	dst = redcon.AppendArray(dst, 2)
	dst = redcon.AppendBulk(dst, words[2])
	return redcon.AppendBulkString(dst, "")
}

// appendClient takes what client libraries say about themselves when they connect.
func (c *respConn) appendClient(dst []byte, words [][]byte) []byte {
	if len(words) < 2 {
		return redcon.AppendError(dst, wrongArity("client"))
	}
	switch strings.ToLower(string(words[1])) {
	case "setname", "setinfo":
		return redcon.AppendOK(dst)
	case "getname":
		return redcon.AppendNull(dst)
	case "id":
		return redcon.AppendInt(dst, c.id)
	}
	return redcon.AppendError(dst, fmt.Sprintf("ERR unknown subcommand '%.128s'", words[1]))
}

// appendHello refuses version 3 of the protocol, in Redis's words, so that clients fall back to 2.
// The role is "master" on every node, because every node takes writes.
func (c *respConn) appendHello(dst []byte, words [][]byte) []byte {
	if len(words) > 1 && string(words[1]) != "2" {
		return redcon.AppendError(dst, "NOPROTO unsupported protocol version")
	}
	if len(words) > 2 {
		return redcon.AppendError(dst, "ERR HELLO takes no options here")
	}
	dst, _ = appendAnswer(dst, []any{"server", "connect", "version", c.server.version,
		"proto", 2, "mode", "standalone", "role", "master", "modules", []any{}})
	return dst
}
