package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
)

const (
	defaultQueueBytes    = 64 << 20
	defaultMaxFrameBytes = 64 << 20
	minFrameBytes        = 4 << 10
	// maxFrameBytes keeps lengths and sums of lengths far from the ends of their types.
	maxFrameBytes = 1 << 30
)

// Options configures a Transport. ClusterID, NodeID, Address, Listener and Handler are required.
type Options struct {
	// ClusterID names the cluster; peers with another one are refused.
	ClusterID string
	// NodeID is this node's id, not zero.
	NodeID uint64
	// Incarnation distinguishes successive lives of one node id on different disks.
	Incarnation uint64
	// Address is where other nodes dial this one. The handshake tells it to peers.
	Address string
	// Listener accepts connections of peers. The transport owns it from Start on.
	Listener net.Listener
	// Dial opens connections. Nil means net.Dialer over tcp, which resolves names on each call.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Handler receives what peers send.
	Handler Handler
	// QueueBytes bounds what waits to be written, per peer and lane. Zero means 64 MiB.
	QueueBytes int64
	// MaxFrameBytes bounds one frame in both directions. A frame that claims to be larger is
	// refused before memory is taken for it. Zero means 64 MiB.
	MaxFrameBytes int64
	// Logger takes one line for each change of a connection's state. Nil means slog.Default.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.QueueBytes == 0 {
		o.QueueBytes = defaultQueueBytes
	}
	if o.MaxFrameBytes == 0 {
		o.MaxFrameBytes = defaultMaxFrameBytes
	}
	if o.Dial == nil {
		var d net.Dialer
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", address)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// validate returns all problems, each with field, value and what is allowed.
func (o *Options) validate() error {
	var problems []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf("transport: "+format, args...))
		}
	}
	check(o.ClusterID != "" && len(o.ClusterID) <= handshakeStringBytes,
		"ClusterID has %d bytes, allowed are 1 to %d", len(o.ClusterID), handshakeStringBytes)
	check(o.NodeID != 0, "NodeID is 0, which is no node")
	check(o.Address != "" && len(o.Address) <= handshakeStringBytes,
		"Address has %d bytes, allowed are 1 to %d", len(o.Address), handshakeStringBytes)
	check(o.Listener != nil, "Listener is missing")
	check(o.Handler != nil, "Handler is missing")
	check(o.QueueBytes > 0, "QueueBytes is %d, it must be positive", o.QueueBytes)
	check(o.MaxFrameBytes >= minFrameBytes && o.MaxFrameBytes <= maxFrameBytes,
		"MaxFrameBytes is %d, allowed are %d to %d", o.MaxFrameBytes, minFrameBytes, maxFrameBytes)
	return errors.Join(problems...)
}
