package snap

import (
	"cmp"
	"fmt"
)

const (
	fileSuffix = ".snap"
	tempSuffix = ".tmp"
)

// identity is what a file's name says.
type identity struct{ group, index, term uint64 }

func (m Meta) identity() identity { return identity{m.Group, m.Index, m.Term} }

func (id identity) name() string {
	return fmt.Sprintf("%016x-%016x-%016x%s", id.group, id.index, id.term, fileSuffix)
}

// parseName accepts exactly what name makes.
func parseName(name string) (identity, bool) {
	var id identity
	_, err := fmt.Sscanf(name, "%16x-%16x-%16x.snap", &id.group, &id.index, &id.term)
	return id, err == nil && id.name() == name
}

// newer orders identities of one group, the newest first.
func newer(a, b identity) int {
	return cmp.Or(cmp.Compare(b.index, a.index), cmp.Compare(b.term, a.term))
}
