package porttest_test

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/connectraft/connect/internal/porttest"
)

// The port of a held address, while nobody listens, while somebody does, and after.
func TestKernelGivesAHeldPortToNobody(t *testing.T) {
	port := int(netip.MustParseAddrPort(porttest.Address(t)).Port())
	refused := func(when string) {
		t.Helper()
		if err := takeAny(port, port); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s, a bind to any port from %d to %d: %v, want %v", when, port, port, err,
				syscall.EADDRINUSE)
		}
	}
	refused("before")
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	refused("meanwhile")
	l.Close()
	refused("after")
}

// takeAny binds a socket as package net does for port 0, but with a choice of the kernel's between
// first and last alone.
func takeAny(first, last int) error {
	const ipLocalPortRange = 51 // IP_LOCAL_PORT_RANGE, which package syscall does not have
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return err
	}
	err = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipLocalPortRange, last<<16|first)
	if errors.Is(err, syscall.ENOPROTOOPT) { // before Linux 6.3: by number, without sharing
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0)
		if err != nil {
			return err
		}
		return syscall.Bind(fd, &syscall.SockaddrInet4{Port: first, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		return err
	}
	return syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
}
