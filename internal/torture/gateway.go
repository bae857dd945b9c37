package torture

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// gateway is the address at which all nodes know one of them. Who dials is told by the hello that
// every connection between nodes begins with (package transport has its layout), so a node that
// joins later goes through links of its own although all learn one address from the membership.
type gateway struct {
	network  *network
	place    int
	listener net.Listener
	served   sync.WaitGroup
	ctx      context.Context
	cancel   context.CancelFunc
}

func newGateway(n *network, place int) (*gateway, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &gateway{network: n, place: place, listener: listener}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.served.Go(g.accept)
	return g, nil
}

func (g *gateway) address() string { return g.listener.Addr().String() }

// close ends all connections and waits for the goroutines.
func (g *gateway) close() {
	g.cancel()
	_ = g.listener.Close()
	g.served.Wait()
}

func (g *gateway) accept() {
	for {
		conn, err := g.listener.Accept()
		if err != nil {
			return
		}
		g.served.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(g.ctx, func() { _ = conn.Close() })()
			g.serve(conn)
		})
	}
}

// serve gives a connection to the link that it belongs to. One of a stranger ends.
func (g *gateway) serve(conn net.Conn) {
	const patience = 10 * time.Second // a paused node may be slow to say its hello
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return
	}
	id, hello, err := readHello(conn)
	if err != nil || conn.SetReadDeadline(time.Time{}) != nil {
		return
	}
	if from, ok := g.network.place(id); ok && from != g.place {
		g.network.links[from][g.place].serve(g.ctx, conn, io.MultiReader(bytes.NewReader(hello), conn))
	}
}

// readHello reads as much of a hello as tells the id of the dialler, and returns what it has read.
func readHello(r io.Reader) (id uint64, read []byte, err error) {
	const magic, prefixBytes = "CNCTPEER", 16
	read = make([]byte, prefixBytes+8)
	if _, err := io.ReadFull(r, read); err != nil {
		return 0, nil, err
	}
	if !bytes.HasPrefix(read, []byte(magic)) {
		return 0, nil, fmt.Errorf("a hello that begins with %q", read[:len(magic)])
	}
	return binary.LittleEndian.Uint64(read[prefixBytes:]), read, nil
}
