package apply

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"
)

// FirstGroup is the group whose log says which others exist.
const FirstGroup = 1

const (
	// GroupIDMax is the largest id of a group.
	GroupIDMax = 1 << 63
	// groupsMax is how many groups can exist at a time beside the first one.
	groupsMax = 1 << 14
	// idRunsMax bounds what is remembered of ids that were used: runs of ids without a gap.
	idRunsMax = 1 << 16
)

// Founder is a voter that a group begins with. Incarnation tells its data directory from one that
// came later under its id; 0 = it was not known when the group was created.
type Founder struct{ ID, Incarnation uint64 }

// CreatedGroup is a group of the catalog.
type CreatedGroup struct {
	ID uint64
	// Index is that of the entry, in the log of the first group, which created the group. Its
	// voters then are the founders.
	Index    uint64
	Founders []Founder
	token    uint64 // tells a command that was repeated from another one
}

// Catalog is which groups exist beside the first one. An id that was removed never returns. A
// catalog that was published is never changed.
type Catalog struct {
	groups map[uint64]*CreatedGroup
	used   []idRun // ids that exist or have existed, in order, not adjoining
}

// idRun is the ids from first to last.
type idRun struct{ first, last uint64 }

// Group returns a group that exists.
func (c *Catalog) Group(id uint64) (CreatedGroup, bool) {
	if g := c.groups[id]; g != nil {
		return *g, true
	}
	return CreatedGroup{}, false
}

// Groups returns the groups that exist, by id.
func (c *Catalog) Groups() []CreatedGroup {
	list := make([]CreatedGroup, 0, len(c.groups))
	for _, g := range c.groups {
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b CreatedGroup) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Removed reports whether a group existed and does not any more. No catalog knows of none.
func (c *Catalog) Removed(id uint64) bool {
	return c != nil && c.wasUsed(id) && c.groups[id] == nil
}

func (c *Catalog) wasUsed(id uint64) bool {
	i := c.runAfter(id)
	return i > 0 && c.used[i-1].last >= id
}

// runAfter returns the position of the first run that begins behind id.
func (c *Catalog) runAfter(id uint64) int {
	i, _ := slices.BinarySearchFunc(c.used, id, func(r idRun, id uint64) int {
		if r.first <= id {
			return -1
		}
		return 1
	})
	return i
}

// use marks an id that was not used. It reports false when the ids are too scattered.
func (c *Catalog) use(id uint64) bool {
	i := c.runAfter(id)
	before := i > 0 && c.used[i-1].last+1 == id
	after := i < len(c.used) && c.used[i].first == id+1
	switch {
	case before && after:
		c.used[i-1].last = c.used[i].last
		c.used = slices.Delete(c.used, i, i+1)
	case before:
		c.used[i-1].last = id
	case after:
		c.used[i].first = id
	case len(c.used) >= idRunsMax:
		return false
	default:
		c.used = slices.Insert(c.used, i, idRun{id, id})
	}
	return true
}

// catalog is the stage's own catalog, and the one it has published.
type catalog struct {
	Catalog
	published *Catalog // nil = another one than is published
}

// get returns the catalog as of now.
func (c *catalog) get() *Catalog {
	if c.published == nil {
		c.published = &Catalog{groups: maps.Clone(c.groups), used: slices.Clone(c.used)}
	}
	return c.published
}

// Catalog returns which groups exist as of the last entry applied. The same pointer means the same
// groups.
func (s *Stage) Catalog() *Catalog { return s.catalog.get() }

// The commands of the catalog, and what they are answered with. Numbers are part of the log's
// format.
//
//	create: u8 1 │ uvarint id │ uvarint token │ founders
//	remove: u8 2 │ uvarint id
//	founders: uvarint n │ { uvarint id │ uvarint incarnation } × n
const (
	catalogCreate = 1
	catalogRemove = 2

	catalogDone      = 0
	catalogExists    = 1
	catalogRemoved   = 2
	catalogUnknown   = 3
	catalogFull      = 4
	catalogInvalid   = 5
	catalogScattered = 6
)

// CreateGroup returns the command of the system that creates a group. Those of the founders count
// that have a vote in the first group when it is applied; who is not named is a founder too, with
// an incarnation that is not known. A command with the same token may be repeated.
func CreateGroup(id, token uint64, founders []Founder) []byte {
	b := binary.AppendUvarint([]byte{systemCatalog, catalogCreate}, id)
	return appendFounders(binary.AppendUvarint(b, token), founders)
}

// RemoveGroup returns the command of the system that removes a group. It may be repeated.
func RemoveGroup(id uint64) []byte {
	return binary.AppendUvarint([]byte{systemCatalog, catalogRemove}, id)
}

// ParseCatalogAnswer returns what the answer to a command of the catalog says: nil, or one of the
// refusals of this package.
func ParseCatalogAnswer(answer []byte) error {
	if len(answer) != 1 {
		return fmt.Errorf("%w: answer of the catalog", ErrMalformed)
	}
	switch answer[0] {
	case catalogDone:
		return nil
	case catalogExists:
		return ErrGroupExists
	case catalogRemoved:
		return ErrGroupRemoved
	case catalogUnknown:
		return ErrNoGroup
	case catalogFull:
		return fmt.Errorf("%w: %d exist", ErrTooManyGroups, groupsMax)
	case catalogScattered:
		return fmt.Errorf("%w: the ids that were used have %d gaps", ErrTooManyGroups, idRunsMax)
	}
	return ErrGroupID
}

// apply executes a command of the catalog and returns its answer. state is the membership of the
// first group.
func (c *catalog) apply(data []byte, index uint64, state *pb.ConfState) ([]byte, error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: an empty command of the catalog", ErrMalformed)
	}
	d := decoder{rest: data[1:]}
	var code byte
	switch data[0] {
	case catalogCreate:
		g := &CreatedGroup{ID: d.uvarint(), Index: index, token: d.uvarint()}
		named := d.founders()
		if d.bad {
			break
		}
		g.Founders = foundersOf(state, named)
		code = c.create(g)
	case catalogRemove:
		if id := d.uvarint(); !d.bad {
			code = c.remove(id)
		}
	default:
		return nil, fmt.Errorf("%w: command %d of the catalog: another version has written it",
			ErrMalformed, data[0])
	}
	return []byte{code}, d.end("command of the catalog")
}

func foundersOf(state *pb.ConfState, named []Founder) []Founder {
	founders := make([]Founder, 0, len(state.GetVoters()))
	for _, id := range state.GetVoters() {
		f := Founder{ID: id}
		for _, n := range named {
			if n.ID == id {
				f = n
			}
		}
		founders = append(founders, f)
	}
	return founders
}

func (c *catalog) create(g *CreatedGroup) byte {
	known := c.groups[g.ID]
	switch {
	case g.ID <= FirstGroup || g.ID > GroupIDMax:
		return catalogInvalid
	case known != nil && known.token == g.token:
		return catalogDone
	case known != nil:
		return catalogExists
	case c.wasUsed(g.ID):
		return catalogRemoved
	case len(c.groups) >= groupsMax:
		return catalogFull
	case !c.use(g.ID):
		return catalogScattered
	}
	if c.groups == nil {
		c.groups = map[uint64]*CreatedGroup{}
	}
	c.groups[g.ID], c.published = g, nil
	return catalogDone
}

func (c *catalog) remove(id uint64) byte {
	switch {
	case c.groups[id] != nil:
		delete(c.groups, id)
		c.published = nil
	case !c.wasUsed(id):
		return catalogUnknown
	}
	return catalogDone
}

// catalogFormat is the first byte of an encoded catalog. One that has never had a group is empty.
const catalogFormat = 1

// appendTo appends the encoding of the catalog:
//
//	u8 format = 1 │ uvarint groups │ group × groups │ uvarint runs │ run × runs
//	group: uvarint id │ uvarint index │ uvarint token │ founders, as in a command
//	run: uvarint first │ uvarint last
func (c *catalog) appendTo(dst []byte) []byte {
	if len(c.used) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(append(dst, catalogFormat), uint64(len(c.groups)))
	for _, g := range c.Groups() {
		dst = binary.AppendUvarint(dst, g.ID)
		dst = binary.AppendUvarint(dst, g.Index)
		dst = appendFounders(binary.AppendUvarint(dst, g.token), g.Founders)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.used)))
	for _, r := range c.used {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, r.first), r.last)
	}
	return dst
}

// parse is the inverse of appendTo.
func (c *catalog) parse(src []byte) error {
	*c = catalog{}
	if len(src) == 0 {
		return nil
	}
	if src[0] != catalogFormat {
		return otherFormat("catalog", src[0], catalogFormat)
	}
	d := decoder{rest: src[1:]}
	c.groups = map[uint64]*CreatedGroup{}
	for range d.uvarint() {
		g := &CreatedGroup{ID: d.uvarint(), Index: d.uvarint(), token: d.uvarint()}
		g.Founders = d.founders()
		if d.bad {
			break
		}
		c.groups[g.ID] = g
	}
	for range d.uvarint() {
		r := idRun{d.uvarint(), d.uvarint()}
		if d.bad {
			break
		}
		c.used = append(c.used, r)
	}
	return d.end("catalog")
}

func appendFounders(dst []byte, founders []Founder) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(founders)))
	for _, f := range founders {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, f.ID), f.Incarnation)
	}
	return dst
}

func (d *decoder) founders() (list []Founder) {
	for range d.uvarint() {
		f := Founder{d.uvarint(), d.uvarint()}
		if d.bad {
			return nil
		}
		list = append(list, f)
	}
	return list
}
