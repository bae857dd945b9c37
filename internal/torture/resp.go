package torture

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// reply is an answer of the service, of either protocol.
type reply struct {
	text   string // of a value, OK or an integer
	absent bool   // null
	failed string // the text of an error
}

var errReply = errors.New("malformed reply")

// readReply reads one RESP value; arrays are not among the answers of the commands in use.
func readReply(r *bufio.Reader) (reply, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return reply{}, err
	}
	line, whole := strings.CutSuffix(line, "\r\n")
	if !whole || line == "" {
		return reply{}, fmt.Errorf("%w: %q", errReply, line)
	}
	switch body := line[1:]; line[0] {
	case '+', ':':
		return reply{text: body}, nil
	case '-':
		return reply{failed: body}, nil
	case '$':
		return readBulk(r, body)
	}
	return reply{}, fmt.Errorf("%w: %q", errReply, line)
}

func readBulk(r *bufio.Reader, length string) (reply, error) {
	const bytesMax = 64 << 10
	n, err := strconv.Atoi(length)
	switch {
	case err != nil || n < -1 || n > bytesMax:
		return reply{}, fmt.Errorf("%w: length %q", errReply, length)
	case n == -1:
		return reply{absent: true}, nil
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return reply{}, err
	}
	value, whole := bytes.CutSuffix(b, []byte("\r\n"))
	if !whole {
		return reply{}, fmt.Errorf("%w: %q", errReply, b)
	}
	return reply{text: string(value)}, nil
}

// parseReply reads the answer of package client, which is a RESP value.
func parseReply(answer []byte) (reply, error) {
	r := bufio.NewReader(bytes.NewReader(answer))
	parsed, err := readReply(r)
	if err == nil && r.Buffered() > 0 {
		err = fmt.Errorf("%w: something behind %q", errReply, answer)
	}
	return parsed, err
}

// respConn is a connection to one node.
type respConn struct {
	conn net.Conn
	r    *bufio.Reader
}

func dialRESP(address string, limit time.Duration) (*respConn, error) {
	conn, err := net.DialTimeout("tcp", address, limit)
	if err != nil {
		return nil, err
	}
	return &respConn{conn, bufio.NewReader(conn)}, nil
}

// do sends a command and reads its answer. After an error, with which the outcome is not known, the
// connection is of no more use.
func (c *respConn) do(limit time.Duration, words ...string) (reply, error) {
	if err := c.send(limit, words); err != nil {
		return reply{}, err
	}
	return readReply(c.r)
}

// send sends commands without waiting for answers. All of them have to be there within limit.
func (c *respConn) send(limit time.Duration, commands ...[]string) error {
	if err := c.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	var request []byte
	for _, words := range commands {
		request = fmt.Appendf(request, "*%d\r\n", len(words))
		for _, word := range words {
			request = fmt.Appendf(request, "$%d\r\n%s\r\n", len(word), word)
		}
	}
	_, err := c.conn.Write(request)
	return err
}

func (c *respConn) close() { _ = c.conn.Close() }
