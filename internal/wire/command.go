package wire

import (
	"encoding/binary"
	"fmt"
)

// A command of a RESP service, as it stands in the log and in the payload of a frame:
//
//	 0        1      2
//	+--------+------+-- - --+-------+--------+-- - - --+--- - -
//	| format | size |  name | count | length |   arg   | ...
//	+--------+------+-- - --+-------+--------+-- - - --+--- - -
//
// format is 1; name is size bytes; count and each length are varints. There is nothing behind the
// last argument.
const commandFormat = 1

// NameBytes is the size of the longest name of a command.
const NameBytes = 255

// AppendCommand appends the encoding of a command to dst. A name of more than NameBytes is cut.
func AppendCommand(dst []byte, name string, args [][]byte) []byte {
	if len(name) > NameBytes {
		name = name[:NameBytes]
	}
	dst = append(dst, commandFormat, byte(len(name)))
	dst = append(dst, name...)
	dst = binary.AppendUvarint(dst, uint64(len(args)))
	for _, arg := range args {
		dst = binary.AppendUvarint(dst, uint64(len(arg)))
		dst = append(dst, arg...)
	}
	return dst
}

// CommandBytes is at least the size of what AppendCommand appends.
func CommandBytes(name string, args [][]byte) int {
	size := 2 + len(name) + binary.MaxVarintLen32*(1+len(args))
	for _, arg := range args {
		size += len(arg)
	}
	return size
}

// ParseCommand is the inverse of AppendCommand. The results alias src.
func ParseCommand(src []byte) (name []byte, args [][]byte, err error) {
	if len(src) < 2 || src[0] != commandFormat || len(src) < 2+int(src[1]) {
		return nil, nil, fmt.Errorf("%w: header", ErrCommand)
	}
	name, src = src[2:2+int(src[1])], src[2+int(src[1]):]
	count, n := binary.Uvarint(src)
	// Every argument takes at least the byte of its length, so a count beyond the bytes that are
	// there is a lie and takes no memory.
	if n <= 0 || count > uint64(len(src)-n) {
		return nil, nil, fmt.Errorf("%w: %d arguments", ErrCommand, count)
	}
	src = src[n:]
	if count > 0 {
		args = make([][]byte, 0, count)
	}
	for range count {
		length, n := binary.Uvarint(src)
		if n <= 0 || length > uint64(len(src)-n) {
			return nil, nil, fmt.Errorf("%w: argument %d", ErrCommand, len(args)+1)
		}
		end := n + int(length)
		args = append(args, src[n:end:end])
		src = src[end:]
	}
	if len(src) > 0 {
		return nil, nil, fmt.Errorf("%w: %d bytes behind the last argument", ErrCommand, len(src))
	}
	return name, args, nil
}
