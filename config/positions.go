package config

import (
	"strconv"
	"strings"
)

// place is where a key stands and what is written behind it.
type place struct {
	line   int
	source string // text of the value as it stands in the file; empty for a table's header
}

// positions finds the line of every key of a TOML text that the TOML library has accepted, which
// keeps no lines for keys of arrays of tables and for values that are wrong only to us. Keys of
// the result are made by [child] and [element]: member[1].peer is the address of the second member.
//
// It follows the syntax just far enough to know where keys and values begin and end. Text that is
// not TOML gives wrong positions, but neither a panic nor an endless loop: every step consumes
// something or stops.
func positions(text string) map[string]place {
	s := &scanner{text: strings.TrimPrefix(text, "\ufeff"), line: 1,
		places: make(map[string]place), lengths: make(map[string]int)}
	s.document()
	return s.places
}

// child names a key of a table; the root is the empty path.
func child(path, key string) string {
	if strings.Trim(key, bareKey) != "" || key == "" {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// element names an element of an array.
func element(path string, index int) string { return path + "[" + strconv.Itoa(index) + "]" }

const bareKey = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// scanner walks through a text. at is the next byte, line the line it is in.
type scanner struct {
	text     string
	at, line int
	places   map[string]place
	lengths  map[string]int // elements of the arrays of tables so far
}

func (s *scanner) document() {
	table := ""
	for s.skip(" \t\r\n"); s.at < len(s.text); s.skip(" \t\r\n") {
		before := s.at
		if s.peek("[") {
			table = s.header()
		} else {
			s.keyValue(table)
		}
		if s.at == before {
			return
		}
	}
}

// header reads [table] or [[array of tables]] and returns the table's path.
func (s *scanner) header() string {
	line := s.line
	array := s.peek("[[")
	s.skipBytes("[")
	path := ""
	keys := s.keys()
	for i, key := range keys {
		path = child(path, key)
		length, isArray := s.lengths[path]
		if array && i == len(keys)-1 {
			s.lengths[path] = length + 1
			s.record(path, place{line: line})
			path = element(path, length)
		} else if isArray {
			path = element(path, length-1)
		}
		if i < len(keys)-1 {
			s.record(path, place{line: line})
		}
	}
	s.places[path] = place{line: line}
	s.skipBytes("]")
	return path
}

// keyValue reads key = value in a table.
func (s *scanner) keyValue(table string) {
	line := s.line
	path := table
	for _, key := range s.keys() {
		path = child(path, key)
		s.record(path, place{line: line})
	}
	s.skip(" \t")
	if s.peek("=") {
		s.advance(1)
	}
	s.skip(" \t")
	begin := s.at
	s.value(path)
	s.places[path] = place{line: line, source: strings.TrimSpace(s.text[begin:s.at])}
}

// record keeps the first place of a table that several lines extend.
func (s *scanner) record(path string, p place) {
	if _, ok := s.places[path]; !ok {
		s.places[path] = p
	}
}

// keys reads a key of one or more parts with dots between them.
func (s *scanner) keys() []string {
	var keys []string
	for {
		s.skip(" \t")
		begin := s.at
		switch {
		case s.peek(`"`):
			s.quoted(`"`)
			key, err := strconv.Unquote(s.text[begin:s.at])
			if err != nil {
				key = s.text[begin:s.at]
			}
			keys = append(keys, key)
		case s.peek(`'`):
			s.quoted(`'`)
			keys = append(keys, strings.Trim(s.text[begin:s.at], `'`))
		default:
			s.skipBytes(bareKey)
			keys = append(keys, s.text[begin:s.at])
		}
		s.skip(" \t")
		if !s.peek(".") {
			return keys
		}
		s.advance(1)
	}
}

// value reads a value of any kind and records the keys within it.
func (s *scanner) value(path string) {
	switch {
	case s.peek(`"""`):
		s.quoted(`"""`)
	case s.peek(`'''`):
		s.quoted(`'''`)
	case s.peek(`"`):
		s.quoted(`"`)
	case s.peek(`'`):
		s.quoted(`'`)
	case s.peek("{"):
		s.list('}', func(int) { s.keyValue(path) })
	case s.peek("["):
		s.list(']', func(index int) {
			e, line, begin := element(path, index), s.line, s.at
			s.value(e)
			s.record(e, place{line: line, source: strings.TrimSpace(s.text[begin:s.at])})
		})
	default:
		for s.at < len(s.text) && !strings.ContainsRune(",]}#\r\n", rune(s.text[s.at])) {
			s.advance(1)
		}
	}
}

// list reads what stands between two brackets with commas between the items.
func (s *scanner) list(end byte, item func(index int)) {
	s.advance(1)
	for index := 0; ; index++ {
		s.skip(" \t\r\n")
		if s.at == len(s.text) {
			return
		}
		if s.text[s.at] == end {
			s.advance(1)
			return
		}
		before := s.at
		item(index)
		s.skip(" \t\r\n")
		if s.peek(",") {
			s.advance(1)
		}
		if s.at == before {
			return
		}
	}
}

// quoted reads a string with its quotes. Only strings in double quotes have escapes. Up to two
// quotes may stand right before the three that end a long string.
func (s *scanner) quoted(quote string) {
	s.advance(len(quote))
	for s.at < len(s.text) {
		switch {
		case quote[0] == '"' && s.peek(`\`):
			s.advance(2)
		case s.peek(quote):
			s.advance(len(quote))
			for extra := 0; len(quote) == 3 && extra < 2 && s.peek(quote[:1]); extra++ {
				s.advance(1)
			}
			return
		default:
			s.advance(1)
		}
	}
}

// skip passes over any of the bytes and over comments.
func (s *scanner) skip(bytes string) {
	for s.skipBytes(bytes); s.peek("#"); s.skipBytes(bytes) {
		for s.at < len(s.text) && s.text[s.at] != '\n' {
			s.advance(1)
		}
	}
}

func (s *scanner) skipBytes(bytes string) {
	for s.at < len(s.text) && strings.IndexByte(bytes, s.text[s.at]) >= 0 {
		s.advance(1)
	}
}

func (s *scanner) peek(prefix string) bool { return strings.HasPrefix(s.text[s.at:], prefix) }

// advance passes over count bytes, or as many as there are, and counts the lines.
func (s *scanner) advance(count int) {
	next := min(s.at+count, len(s.text))
	s.line += strings.Count(s.text[s.at:next], "\n")
	s.at = next
}
