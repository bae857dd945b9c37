package torture

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a connection from node 0 to node 1 through their link.
type pair struct {
	network           *network
	dialler, acceptor net.Conn
}

func dialPair(t *testing.T) pair {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n, err := newNetwork([]string{"127.0.0.1:0", listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	n.settle(7, 0)
	dialler := greet(t, n, 7, 1)
	acceptor, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if !arrives(t, acceptor, hello(7), long) {
		t.Fatal("the hello does not arrive")
	}
	t.Cleanup(func() {
		for _, c := range []io.Closer{dialler, acceptor, listener} {
			_ = c.Close()
		}
		n.close()
	})
	return pair{n, dialler, acceptor}
}

// hello is as much of a hello as tells who dials.
func hello(id uint64) string {
	return string(binary.LittleEndian.AppendUint64([]byte("CNCTPEER........"), id))
}

// greet dials the node of a place as another does.
func greet(t *testing.T, n *network, id uint64, place int) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", n.gateways[place].address())
	if err != nil {
		t.Fatal(err)
	}
	say(t, conn, hello(id))
	return conn
}

// arrives reports whether exactly want is read from c within a time.
func arrives(t *testing.T, c net.Conn, want string, limit time.Duration) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	n, _ := io.ReadFull(c, got)
	if n > 0 && string(got[:n]) != want {
		t.Fatalf("read %q, want %q", got[:n], want)
	}
	return n == len(want)
}

func say(t *testing.T, c net.Conn, what string) {
	t.Helper()
	if _, err := io.WriteString(c, what); err != nil {
		t.Fatal(err)
	}
}

const (
	long  = 10 * time.Second
	short = 50 * time.Millisecond // in which something is not to happen
)

func TestACutHoldsOneDirection(t *testing.T) {
	p := dialPair(t)
	say(t, p.dialler, "before")
	if !arrives(t, p.acceptor, "before", long) {
		t.Fatal("nothing goes through an open link")
	}
	f := p.network.flows[0][1]
	f.setCut(true)
	say(t, p.dialler, "there")
	say(t, p.acceptor, "back")
	if !arrives(t, p.dialler, "back", long) {
		t.Error("the direction that is not cut is dead")
	}
	if arrives(t, p.acceptor, "there", short) {
		t.Error("the cut direction is alive")
	}
	if f.held.Load() == 0 {
		t.Error("the cut does not say that it held something")
	}
	p.network.heal()
	if !arrives(t, p.acceptor, "there", long) {
		t.Error("what met the cut is lost")
	}
}

func TestTheEndOfAConnectionMeetsTheCut(t *testing.T) {
	p := dialPair(t)
	p.network.flows[0][1].setCut(true)
	_ = p.dialler.Close()
	if err := p.acceptor.SetReadDeadline(time.Now().Add(short)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.acceptor.Read(make([]byte, 1)); err == io.EOF {
		t.Error("the end went through the cut")
	}
	p.network.heal()
	if err := p.acceptor.SetReadDeadline(time.Now().Add(long)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.acceptor.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the cut: %v, want EOF", err)
	}
}

func TestNoConnectionIsMadeThroughACut(t *testing.T) {
	p := dialPair(t)
	l := p.network.links[0][1]
	p.network.flows[1][0].setCut(true) // the answer to the dialling would not arrive
	conn := greet(t, p.network, 7, 1)
	defer conn.Close()
	timer := time.NewTimer(short)
	<-timer.C
	if got := len(l.open()); got != 1 {
		t.Errorf("%d connections are open, want the one from before", got)
	}
	p.network.heal()
	if err := within(t.Context(), long, func() error {
		if len(l.open()) != 2 {
			return io.ErrNoProgress
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestADelayDelays(t *testing.T) {
	p := dialPair(t)
	p.network.flows[0][1].setDelay(2*short, 0)
	begun := time.Now()
	say(t, p.dialler, "late")
	if !arrives(t, p.acceptor, "late", long) || time.Since(begun) < 2*short {
		t.Errorf("arrived after %v, want no less than %v", time.Since(begun), 2*short)
	}
}

func TestDamageIsOneByteOfAConnection(t *testing.T) {
	p := dialPair(t)
	f := p.network.flows[0][1]
	f.setDamage(true)
	sent := bytes.Repeat([]byte("a"), 1000)
	got := make([]byte, len(sent))
	for round := range 3 {
		say(t, p.dialler, string(sent))
		if err := p.acceptor.SetReadDeadline(time.Now().Add(long)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(p.acceptor, got); err != nil {
			t.Fatal(err)
		}
		changed := len(sent) - bytes.Count(got, []byte("a"))
		if (round == 0) != (changed == 1) || changed > 1 {
			t.Errorf("round %d: %d bytes changed", round, changed)
		}
	}
	if damaged := f.takeDamaged(); len(damaged) != 1 || damaged[0].ctx.Err() != nil {
		t.Errorf("%d damaged connections, want the one that is open", len(damaged))
	}
}

func TestABypassIsNoticed(t *testing.T) {
	if _, err := establishedSockets(); err != nil {
		t.Skipf("this system does not list its sockets: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	peers := []string{listener.Addr().String(), "127.0.0.1:1"}
	n, err := newNetwork(peers)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	for _, l := range n.everyLink() { // as if something had gone through each
		l.accepted.Add(1)
		l.there.bytes.Add(1)
	}
	n.settle(9, 1)
	through := greet(t, n, 9, 0)
	defer through.Close()
	members := []int{0, 1}
	check := func() error { return n.checkBypass(peers, members) }
	if err := within(t.Context(), long, check); err != nil {
		t.Errorf("a connection through a link: %v", err)
	}
	direct, err := net.Dial("tcp", peers[0])
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	if err := check(); err == nil {
		t.Error("a connection around the links is not noticed")
	}
}
