package admin

// Member is one node of a cluster with its three listeners, each host:port.
type Member struct {
	ID          uint64 `json:"id"`
	Peer        string `json:"peer"`
	Client      string `json:"client"`
	Admin       string `json:"admin"`
	Incarnation uint64 `json:"incarnation,omitempty"` // of its data directory; 0 = not known
}

// Membership is who carries a group.
type Membership struct {
	Group    uint64   `json:"group"`
	Version  uint64   `json:"version"` // index of the entry that made it so
	Voters   []Member `json:"voters"`
	Learners []Member `json:"learners"`
	// Joint says that a change is between its two halves: majorities of the old and of the new
	// voters are needed.
	Joint bool `json:"joint"`
	// Leaving vote until then, and are no members any more afterwards.
	Leaving []Member `json:"leaving,omitempty"`
}

// Find returns the member of an id, and whether it votes; nil when it is none.
func (m *Membership) Find(id uint64) (found *Member, votes bool) {
	for i := range m.Voters {
		if m.Voters[i].ID == id {
			return &m.Voters[i], true
		}
	}
	for i := range m.Learners {
		if m.Learners[i].ID == id {
			return &m.Learners[i], false
		}
	}
	return nil, false
}

// Change is the body of POST /v1/members: everything that is to become different in one group, as
// one step. Group 0 is the first group. Version is the membership it was decided on, 0 = any.
type Change struct {
	Group     uint64   `json:"group,omitempty"`
	Version   uint64   `json:"version,omitempty"`
	Add       []Member `json:"add,omitempty"`   // become voters when they have caught up
	Learn     []Member `json:"learn,omitempty"` // become learners
	Promote   []uint64 `json:"promote,omitempty"`
	Remove    []uint64 `json:"remove,omitempty"`
	Readdress []Member `json:"readdress,omitempty"`
}

// Empty reports whether the change asks for nothing.
func (c *Change) Empty() bool {
	return len(c.Add)+len(c.Learn)+len(c.Promote)+len(c.Remove)+len(c.Readdress) == 0
}

// Line is one line of the answer to POST /v1/members. It has one of the three, and the last line
// has one of the last two. Empty lines in between say that the connection lives.
type Line struct {
	Progress   *Progress   `json:"progress,omitempty"`
	Membership *Membership `json:"membership,omitempty"` // done: this is the membership now
	Error      *Error      `json:"error,omitempty"`      // not done, or not known to be
}

// Transfer is the body of POST /v1/transfer. Group 0 is the first group.
type Transfer struct {
	Group uint64 `json:"group,omitempty"`
	To    uint64 `json:"to"`
}

// Drain is the body of POST /v1/drain, which has no fields.
type Drain struct{}

// NewGroup is the body of POST /v1/groups.
type NewGroup struct {
	Group uint64 `json:"group"`
}

// Groups is the answer to GET /v1/groups: the groups that run on one node.
type Groups struct {
	Groups []Group `json:"groups"`
}

// Done is the answer to a request that has nothing to tell but that it has been done.
type Done struct {
	Done bool `json:"done"`
}
