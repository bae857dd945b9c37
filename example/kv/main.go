// Kv is a small replicated key-value store that speaks the Redis protocol: SET GET DEL EXISTS INCR
// MGET DBSIZE and PING behave, and fail, as in Redis.
package main

import (
	"github.com/connectraft/connect/server"
	"github.com/connectraft/connect/statemachine"
)

func main() { server.Main(service()) }

// service declares the commands. PING is the server's own. Each group has a store of its own, which
// SELECT chooses.
func service() server.Service {
	return server.RESPGroups(newGroup,
		server.Write("set", -3),
		server.Write("del", -2),
		server.Write("incr", 2),
		server.Read("get", 2),
		server.Read("mget", -2),
		server.Read("exists", -2),
		server.Read("dbsize", 1),
	)
}

func newGroup(uint64) (statemachine.StateMachine[server.Command, any], error) {
	return newStore(), nil
}
