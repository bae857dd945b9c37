package torture

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// socket has the ports of a TCP connection.
type socket struct{ local, remote int }

// establishedSockets lists the IPv4 connections of this machine, which Linux shows in a file.
func establishedSockets() (sockets []socket, _ error) {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const established = "01"
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != established {
			continue
		}
		sockets = append(sockets, socket{hexPort(fields[1]), hexPort(fields[2])})
	}
	return sockets, lines.Err()
}

// hexPort reads the port of an address such as 0100007F:1F90.
func hexPort(address string) int {
	_, port, _ := strings.Cut(address, ":")
	n, _ := strconv.ParseUint(port, 16, 16)
	return int(n)
}

// stopped reports whether a process is stopped by a signal; known is false where the system does not
// tell.
func stopped(pid int) (is, known bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false, false
	}
	_, rest, _ := strings.Cut(string(b), ") ") // behind the name, which may hold anything
	return strings.HasPrefix(rest, "T"), true
}
