// Package porttest finds addresses of this machine for tests that listen there later, or again and
// again.
package porttest

import "testing"

// Address returns a loopback address at which nothing listens until somebody is told to. While the
// test runs, the kernel gives the port to nobody who asks for any free one, as tests of other
// packages do at the same time; it can be listened at by its number, as often as wanted, and refuses
// connections meanwhile. Outside Linux it is only an address that was free a moment ago.
func Address(t testing.TB) string {
	t.Helper()
	address, release, err := hold()
	if err != nil {
		t.Fatalf("porttest: hold a port: %v", err)
	}
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Errorf("porttest: release %s: %v", address, err)
		}
	})
	return address
}

// Addresses returns as many different addresses, each as Address does.
func Addresses(t testing.TB, count int) []string {
	t.Helper()
	addresses := make([]string, count)
	for i := range addresses {
		addresses[i] = Address(t)
	}
	return addresses
}
