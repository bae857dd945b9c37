package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Parse is [Load] for bytes; file is the name used in problems. It never panics, whatever data is.
func Parse(file string, data []byte, over Overrides) (*Config, error) {
	text := string(data)
	tree, err := decode(text)
	if err != nil {
		return nil, &Error{Problems: []Problem{syntaxProblem(file, err)}}
	}
	l := &loader{file: file, places: positions(text), config: Default(),
		overridden: make(map[string]Problem), good: make(map[string]bool)}
	l.document(tree)
	l.override(over)
	l.check(over.NoNode)
	if len(l.problems) > 0 {
		slices.SortStableFunc(l.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
		return nil, &Error{Problems: l.problems}
	}
	return l.config, nil
}

// decode reads TOML into Go's general types. The library panics where it finds a fault of its own;
// to the user that is a file that cannot be read like any other.
func decode(text string) (tree map[string]any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	_, err = toml.Decode(text, &tree)
	return tree, err
}

// syntaxProblem is the first thing the library cannot read; it stops there.
func syntaxProblem(file string, err error) Problem {
	p := Problem{File: file, Line: 1, Reason: err.Error(), Want: "valid TOML"}
	if e, ok := errors.AsType[toml.ParseError](err); ok {
		p.Line, p.Key, p.Reason = max(e.Position.Line, 1), e.LastKey, e.Message
	}
	return p
}

// loader fills a configuration from a tree of TOML values and gathers what is wrong with them.
type loader struct {
	file       string
	places     map[string]place
	config     *Config
	overridden map[string]Problem // where the value of an overridden key comes from
	good       map[string]bool    // paths that have an allowed value
	problems   []Problem
}

// at begins a problem of the key at path.
func (l *loader) at(path string) Problem {
	if p, ok := l.overridden[path]; ok {
		return p
	}
	place := l.places[path]
	return Problem{File: l.file, Line: max(place.line, 1), Key: label(path),
		Value: firstLine(place.source)}
}

// report adds a problem of the key at path.
func (l *loader) report(path, reason, want string) {
	p := l.at(path)
	p.Reason, p.Want = reason, want
	l.problems = append(l.problems, p)
}

// label is a path without the numbers of array elements, which do not stand in the file.
func label(path string) string {
	for {
		before, rest, ok := strings.Cut(path, "[")
		if !ok {
			return path
		}
		_, after, _ := strings.Cut(rest, "]")
		path = before + after
	}
}

// firstLine shortens a value for a message.
func firstLine(source string) string {
	line, _, more := strings.Cut(source, "\n")
	runes := []rune(strings.TrimSpace(line))
	if len(runes) > 100 {
		runes, more = runes[:100], true
	}
	if more {
		return string(runes) + " ..."
	}
	return string(runes)
}

func (l *loader) document(tree map[string]any) {
	sections := l.config.sections()
	var known []string
	for _, section := range sections {
		known = append(known, "["+section.name+"]")
		v, ok := tree[section.name]
		if !ok {
			continue
		}
		if table, ok := v.(map[string]any); ok {
			l.table(section.name, table, section.settings)
		} else {
			l.report(section.name, "not a table", "["+section.name+"] with its keys")
		}
		delete(tree, section.name)
	}
	if v, ok := tree[memberTable]; ok {
		l.members(v)
		delete(tree, memberTable)
	} else {
		l.report(memberTable, "missing", wantMembers)
	}
	known = slices.Insert(known, 2, "[["+memberTable+"]]")
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		l.report(child("", key), "unknown key", oneOf(known))
	}
}

// table reads the keys of one table and reports those that it does not know.
func (l *loader) table(path string, table map[string]any, settings []setting) {
	var known []string
	for _, s := range settings {
		known = append(known, s.key)
		v, ok := table[s.key]
		delete(table, s.key)
		if !ok {
			continue
		}
		if l.good[child(path, s.key)] = s.value.set(v); !l.good[child(path, s.key)] {
			l.report(child(path, s.key), "", s.value.want())
		}
	}
	for _, key := range slices.Sorted(maps.Keys(table)) {
		l.report(child(path, key), "unknown key", oneOf(known))
	}
}

const wantMembers = "[[member]] for each node, with its id, peer, client and admin"

// members reads the array of tables, in either of its two forms.
func (l *loader) members(v any) {
	tables, ok := v.([]map[string]any)
	if list, isList := v.([]any); isList {
		ok = true
		for _, item := range list {
			table, isTable := item.(map[string]any)
			tables, ok = append(tables, table), ok && isTable
		}
	}
	if !ok {
		l.report(memberTable, "not an array of tables", wantMembers)
		return
	}
	if len(tables) == 0 {
		l.report(memberTable, "empty", wantMembers)
	}
	if len(tables) > membersMax {
		l.report(element(memberTable, membersMax), "too many members",
			fmt.Sprintf("at most %d", membersMax))
		tables = tables[:membersMax]
	}
	l.config.Members = make([]Member, len(tables))
	for i, table := range tables {
		path, settings := element(memberTable, i), l.config.Members[i].settings()
		for _, s := range settings {
			if _, ok := table[s.key]; !ok && s.required() {
				l.missing(path, s)
			}
		}
		l.table(path, table, settings)
	}
}

// setting returns the key at a path outside of [[member]].
func (l *loader) setting(path string) setting {
	for _, section := range l.config.sections() {
		for _, s := range section.settings {
			if child(section.name, s.key) == path {
				return s
			}
		}
	}
	panic("config: no key " + path)
}

// missing reports a required key that is not there, in the line of the table that misses it.
func (l *loader) missing(table string, s setting) {
	p := l.at(table)
	p.Key, p.Value = label(child(table, s.key)), ""
	p.Reason, p.Want = "missing", s.value.want()
	for _, o := range (Overrides{}).list() {
		if table == nodeTable && s.key == o.key {
			p.Want += fmt.Sprintf(" here, by %s or by %s", o.flag, o.variable)
		}
	}
	l.problems = append(l.problems, p)
}

// oneOf joins what is allowed.
func oneOf(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}
