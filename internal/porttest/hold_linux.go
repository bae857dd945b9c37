package porttest

import (
	"net"
	"os"
	"strconv"
	"syscall"
)

// hold binds a socket and never listens with it. Its port is taken for everybody who lets the kernel
// choose one, connections included. A listener with SO_REUSEADDR, which package net sets, may share
// it by number, because nobody else listens.
func hold() (address string, release func() error, _ error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, os.NewSyscallError("socket", err)
	}
	port, err := bind(fd)
	if err != nil {
		syscall.Close(fd)
		return "", nil, err
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		func() error { return syscall.Close(fd) }, nil
}

// bind binds a socket to a port that the kernel chooses. It is to be shared only from then on, so that
// the choice is of one that nobody has.
func bind(fd int) (port int, _ error) {
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	return name.(*syscall.SockaddrInet4).Port, nil
}
