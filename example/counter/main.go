// Counter is a counter that survives: incr adds one and answers the new value, get answers it.
package main

import (
	"encoding/binary"
	"io"

	"github.com/connectraft/connect/server"
	"github.com/connectraft/connect/statemachine"
)

type counter struct{ n int64 }

func (c *counter) Apply(statemachine.Meta, server.Command) (int64, error) {
	c.n++
	return c.n, nil
}

func (c *counter) Query(server.Command) (int64, error) { return c.n, nil }

func (c *counter) Snapshot(w io.Writer) error { return binary.Write(w, binary.BigEndian, c.n) }

func (c *counter) Restore(r io.Reader) error { return binary.Read(r, binary.BigEndian, &c.n) }

func main() {
	server.Main(server.RESP(new(counter), server.Write("incr", 1), server.Read("get", 1)))
}
