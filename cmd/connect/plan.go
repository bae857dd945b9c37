package main

import (
	"fmt"
	"slices"

	"github.com/connectraft/connect/internal/admin"
)

// addPlan wants nodes to be voters, or at least learners.
func addPlan(nodes []admin.Member, learner bool) plan {
	return func(m *admin.Membership) (change admin.Change, err error) {
		for _, n := range nodes {
			if err := addTo(&change, m, n, learner); err != nil {
				return change, err
			}
		}
		return change, nil
	}
}

func addTo(change *admin.Change, m *admin.Membership, n admin.Member, learner bool) error {
	found, votes := m.Find(n.ID)
	switch {
	case found == nil && learner:
		change.Learn = append(change.Learn, n)
	case found == nil:
		change.Add = append(change.Add, n)
	case found.Incarnation != 0 && n.Incarnation != 0 && found.Incarnation != n.Incarnation:
		return fmt.Errorf("member %d is another node, or the same with another data directory: give the "+
			"new node an id that was never used", n.ID)
	case !votes && !learner:
		change.Promote = append(change.Promote, n.ID)
	}
	return nil
}

// promotePlan wants learners to be voters. A group that does not have them is left alone.
func promotePlan(list []uint64) plan {
	return func(m *admin.Membership) (change admin.Change, err error) {
		for _, id := range list {
			if found, votes := m.Find(id); found != nil && !votes {
				change.Promote = append(change.Promote, id)
			}
		}
		return change, nil
	}
}

// removePlan wants members to be gone.
func removePlan(list []uint64) plan {
	return func(m *admin.Membership) (change admin.Change, err error) {
		for _, id := range list {
			if found, _ := m.Find(id); found != nil {
				change.Remove = append(change.Remove, id)
			}
		}
		left := func(v admin.Member) bool { return !slices.Contains(list, v.ID) }
		if !slices.ContainsFunc(m.Voters, left) {
			return change, fmt.Errorf("nobody would be left: the voters are %s", ids(voterIDs(m)))
		}
		return change, nil
	}
}

// replacePlan wants each old member to be gone and the node at its place to vote. A group that does
// not have the old one is left alone.
func replacePlan(old []uint64, nodes []admin.Member) plan {
	return func(m *admin.Membership) (change admin.Change, err error) {
		for i, id := range old {
			if found, _ := m.Find(id); found == nil {
				continue
			}
			if err := addTo(&change, m, nodes[i], false); err != nil {
				return change, err
			}
			change.Remove = append(change.Remove, id)
		}
		return change, nil
	}
}

// substitutePlan is the first half of replacePlan.
func substitutePlan(old []uint64, nodes []admin.Member) plan {
	replace := replacePlan(old, nodes)
	return func(m *admin.Membership) (admin.Change, error) {
		change, err := replace(m)
		change.Remove = nil
		return change, err
	}
}

// readdressPlan wants members to be known by the addresses that they have. A group that does not
// have them is left alone.
func readdressPlan(nodes []admin.Member) plan {
	return func(m *admin.Membership) (change admin.Change, err error) {
		for _, n := range nodes {
			found, _ := m.Find(n.ID)
			if found == nil {
				continue
			}
			if n.Incarnation == 0 || found.Incarnation == 0 {
				n.Incarnation = found.Incarnation
			}
			if n.Incarnation != found.Incarnation {
				return change, fmt.Errorf("member %d has another data directory than this node", n.ID)
			}
			if n != *found {
				change.Readdress = append(change.Readdress, n)
			}
		}
		return change, nil
	}
}

func voterIDs(m *admin.Membership) []uint64 { return idsOf(m.Voters) }

func idsOf(members []admin.Member) []uint64 {
	var list []uint64
	for _, m := range members {
		list = append(list, m.ID)
	}
	return list
}
