package porttest_test

import (
	"net"
	"testing"

	"github.com/connectraft/connect/internal/porttest"
)

func TestAddressCanBeListenedAtAgainAndAgain(t *testing.T) {
	address := porttest.Address(t)
	for range 3 {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			t.Fatalf("%s takes a connection and nobody listens", address)
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		near, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		far.Close() // first, so that it is this end's port that is remembered for a while
		near.Close()
	}
}

func TestAddressesDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, address := range porttest.Addresses(t, 100) {
		if seen[address] {
			t.Errorf("%s comes twice", address)
		}
		seen[address] = true
	}
}
