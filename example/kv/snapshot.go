package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
)

// A snapshot is the number of keys and then, in the order of the keys, each key and its value:
//
//	+-------+--------+-- - --+--------+-- - - --+--- - -
//	| count | length |  key  | length |  value  | ...
//	+-------+--------+-- - --+--------+-- - - --+--- - -
//
// count and each length are varints. Equal states give equal snapshots.

// Snapshot writes the whole state.
func (s *store) Snapshot(w io.Writer) error {
	out := bufio.NewWriter(w)
	buffer := binary.AppendUvarint(nil, uint64(len(s.values)))
	for _, key := range slices.Sorted(maps.Keys(s.values)) {
		buffer = appendText(appendText(buffer, key), s.values[key])
		if _, err := out.Write(buffer); err != nil {
			return err
		}
		buffer = buffer[:0]
	}
	if _, err := out.Write(buffer); err != nil { // the count of a state without keys
		return err
	}
	return out.Flush()
}

func appendText(dst []byte, text string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

// Restore replaces the state by what Snapshot wrote; on an error the state is as it was.
func (s *store) Restore(r io.Reader) error {
	in := bufio.NewReader(r)
	count, err := binary.ReadUvarint(in)
	if err != nil {
		return fmt.Errorf("kv: snapshot: number of keys: %w", err)
	}
	values := map[string]string{}
	for i := range count {
		key, err := readText(in)
		if err != nil {
			return fmt.Errorf("kv: snapshot: key %d of %d: %w", i+1, count, err)
		}
		if values[key], err = readText(in); err != nil {
			return fmt.Errorf("kv: snapshot: value %d of %d: %w", i+1, count, err)
		}
	}
	s.values = values
	return nil
}

// readText takes memory as the bytes arrive, not as the length promises.
func readText(in *bufio.Reader) (string, error) {
	length, err := binary.ReadUvarint(in)
	if err == nil {
		var b bytes.Buffer
		if _, err = io.CopyN(&b, in, int64(min(length, math.MaxInt64))); err == nil {
			return b.String(), nil
		}
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return "", err
}
