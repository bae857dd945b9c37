package transport_test

import (
	"net"
	"strings"
	"testing"

	"github.com/connectraft/connect/transport"
)

func TestOptionsTellEveryProblem(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	good := transport.Options{
		ClusterID: "c", NodeID: 1, Address: "a:1", Listener: listener, Handler: newRecorder(),
	}
	unused, err := transport.New(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := unused.Close(); err != nil {
		t.Errorf("closing what was not started: %v", err)
	}
	cases := []struct {
		change func(*transport.Options)
		want   []string
	}{
		{func(o *transport.Options) { *o = transport.Options{} },
			[]string{"ClusterID", "NodeID", "Address", "Listener", "Handler"}},
		{func(o *transport.Options) { o.ClusterID = strings.Repeat("x", 2000) },
			[]string{"ClusterID has 2000 bytes, allowed are 1 to 1024"}},
		{func(o *transport.Options) { o.QueueBytes = -1 }, []string{"QueueBytes is -1"}},
		{func(o *transport.Options) { o.MaxFrameBytes = 1 }, []string{"MaxFrameBytes is 1,"}},
		{func(o *transport.Options) { o.MaxFrameBytes = 1 << 40 }, []string{"MaxFrameBytes is"}},
	}
	for _, c := range cases {
		o := good
		c.change(&o)
		_, err := transport.New(o)
		if err == nil {
			t.Errorf("no error, want %q", c.want)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in %v", want, err)
			}
		}
	}
}
