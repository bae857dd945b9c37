package config

import "strconv"

// Overrides are the settings of a node that do not come from the file. A flag beats the
// environment, and the environment beats the file.
type Overrides struct {
	// ID and Data are the values of the flags -id and -data; empty when not given.
	ID, Data string
	// Environ is usually os.Getenv; it is asked for CONNECT_NODE_ID and CONNECT_NODE_DATA, where
	// empty means not set. nil means no environment.
	Environ func(string) string
	// NoNode is for a program that only wants to know the cluster: it is no member, [node] may be
	// missing, and Config.Self must not be called.
	NoNode bool
}

// override is a key of [node] that has a flag and an environment variable.
type override struct{ key, flag, variable, given string }

func (o Overrides) list() []override {
	return []override{
		{"id", "-id", "CONNECT_NODE_ID", o.ID},
		{"data", "-data", "CONNECT_NODE_DATA", o.Data},
	}
}

// override takes the node's id and data directory from where they weigh most.
func (l *loader) override(over Overrides) {
	for _, o := range over.list() {
		origin := Problem{File: "command line", Key: o.flag}
		given := o.given
		if given == "" && over.Environ != nil {
			origin = Problem{File: "environment", Key: o.variable}
			given = over.Environ(o.variable)
		}
		if given == "" {
			continue
		}
		origin.Value = quote(given)
		path := child(nodeTable, o.key)
		l.overridden[path] = origin
		s := l.setting(path)
		if l.good[path] = s.value.set(typed(s.value, given)); !l.good[path] {
			l.report(path, "", s.value.want())
		}
	}
}

// typed makes of a word what the TOML library would make of it in the place of v.
func typed(v value, given string) any {
	if _, ok := v.(number[uint64]); ok {
		if id, err := strconv.ParseInt(given, 10, 64); err == nil {
			return id
		}
	}
	return given
}
