package apply

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Member is what the group knows about one of its nodes beside its vote.
type Member struct {
	ID      uint64
	Address string // of the peer listener, host:port
	Client  string // of the client listener, "" = none or not known
	Admin   string // of the admin listener, "" = none or not known
	// Incarnation tells a node from another one that came later under the same id; 0 = not known.
	Incarnation uint64
}

// Directory says who the members of a group are. It is never changed once it is published: a change
// of the configuration makes another one.
type Directory struct {
	// Version is the index of the last change of the configuration.
	Version uint64
	// Members has at most one element for each id of State, in the order of ids.
	Members []Member
	// State is who votes and who learns. It is not part of the directory's encoding: a snapshot
	// has it in its own place.
	State *pb.ConfState
}

// Member returns the member of an id.
func (d *Directory) Member(id uint64) (Member, bool) {
	i, ok := slices.BinarySearchFunc(d.Members, id, byID)
	if !ok {
		return Member{}, false
	}
	return d.Members[i], true
}

func byID(m Member, id uint64) int { return cmp.Compare(m.ID, id) }

// isMember reports whether a configuration has an id in any of its parts.
func isMember(state *pb.ConfState, id uint64) bool {
	return slices.Contains(state.GetVoters(), id) || slices.Contains(state.GetLearners(), id) ||
		slices.Contains(state.GetVotersOutgoing(), id) ||
		slices.Contains(state.GetLearnersNext(), id)
}

// with returns the directory behind a change at version: changed members take the place of those
// with their ids, and those that are not in the configuration leave.
func (d *Directory) with(version uint64, state *pb.ConfState, changed []Member) *Directory {
	members := slices.Clone(d.Members)
	for _, m := range changed {
		if i, ok := slices.BinarySearchFunc(members, m.ID, byID); ok {
			members[i] = m
		} else {
			members = slices.Insert(members, i, m)
		}
	}
	members = slices.DeleteFunc(members, func(m Member) bool { return !isMember(state, m.ID) })
	return &Directory{Version: version, Members: members, State: state}
}

// changedMembers reads the members out of an entry that changes the configuration.
func changedMembers(e *pb.Entry) ([]Member, error) {
	var context []byte
	var err error
	switch e.GetType() {
	case pb.EntryConfChange:
		var c pb.ConfChange
		err = proto.Unmarshal(e.GetData(), &c)
		context = c.GetContext()
	case pb.EntryConfChangeV2:
		var c pb.ConfChangeV2
		err = proto.Unmarshal(e.GetData(), &c)
		context = c.GetContext()
	}
	if err != nil {
		return nil, fmt.Errorf("change of the configuration: %w", err)
	}
	if len(context) == 0 {
		return nil, nil
	}
	return ParseMembers(context)
}

// membersFormat is the first byte of encoded members.
const membersFormat = 1

// AppendMembers appends the encoding of members to dst: the Context of a change of the
// configuration that adds or changes them.
//
//	u8 format = 1 │ uvarint members │ member × members
//	member: uvarint id │ address │ client │ admin │ uvarint incarnation
//
// A string is its length (uvarint) and its bytes.
func AppendMembers(dst []byte, members []Member) []byte {
	dst = binary.AppendUvarint(append(dst, membersFormat), uint64(len(members)))
	for _, m := range members {
		dst = binary.AppendUvarint(dst, m.ID)
		dst = appendBytes(dst, m.Address)
		dst = appendBytes(dst, m.Client)
		dst = appendBytes(dst, m.Admin)
		dst = binary.AppendUvarint(dst, m.Incarnation)
	}
	return dst
}

// ParseMembers is the inverse of AppendMembers. It keeps nothing of src.
func ParseMembers(src []byte) ([]Member, error) {
	if len(src) == 0 {
		return nil, fmt.Errorf("%w: no members", ErrMalformed)
	}
	if src[0] != membersFormat {
		return nil, otherFormat("members", src[0], membersFormat)
	}
	d := decoder{rest: src[1:]}
	var members []Member
	for range d.uvarint() {
		m := Member{ID: d.uvarint(), Address: d.string(), Client: d.string(), Admin: d.string(),
			Incarnation: d.uvarint()}
		if d.bad {
			break
		}
		members = append(members, m)
	}
	return members, d.end("members")
}

func (d *Directory) appendTo(dst []byte) []byte {
	return AppendMembers(binary.AppendUvarint(dst, d.Version), d.Members)
}

// parseDirectory is the inverse of appendTo; state comes from the snapshot's own place.
func parseDirectory(src []byte, state *pb.ConfState) (*Directory, error) {
	d := decoder{rest: src}
	version := d.uvarint()
	members, err := ParseMembers(d.rest)
	if err != nil {
		return nil, err
	}
	return (&Directory{}).with(version, state, members), nil
}
