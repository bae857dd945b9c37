//go:build !linux

package porttest

import "net"

// hold lets go of the address at once: what two sockets may share differs between systems.
func hold() (address string, release func() error, _ error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	return l.Addr().String(), func() error { return nil }, l.Close()
}
