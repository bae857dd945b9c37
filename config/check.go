package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// check looks at values that are allowed by themselves but not together, and at keys that are not
// there. A key that has a problem already takes no part.
func (l *loader) check(noNode bool) {
	for _, section := range l.config.sections()[:2] { // cluster and node: all keys are required
		if noNode && section.name == nodeTable {
			continue
		}
		for _, s := range section.settings {
			if _, there := l.good[child(section.name, s.key)]; !there {
				l.missing(section.name, s)
			}
		}
	}
	l.checkMembers()
	if !noNode {
		l.checkNode()
	}
	c := l.config
	l.require(c.Raft.ElectionTicks > c.Raft.HeartbeatTicks,
		"raft.election_ticks", "more than", "raft.heartbeat_ticks")
	l.require(c.Limits.Entry >= c.Limits.Command,
		"limits.entry", "at least", "limits.command")
	l.require(c.Limits.InflightBytes >= c.Limits.Command,
		"limits.inflight_bytes", "at least", "limits.command")
	l.require(c.Log.Segment >= 2*c.Limits.Entry,
		"log.segment", "at least twice", "limits.entry")
}

// require reports unless ok, which is a relation between the values at two paths. It is the value
// at path that should change, but where that is a default the user has to look at the other.
func (l *loader) require(ok bool, path, relation, other string) {
	set, there := l.good[path]
	otherSet, otherThere := l.good[other]
	switch {
	case ok || there && !set || otherThere && !otherSet:
	case there:
		l.report(path, fmt.Sprintf("%s is %s", other, l.setting(other).value), relation+" "+other)
	default:
		l.report(other, fmt.Sprintf("%s is %s", path, l.setting(path).value),
			fmt.Sprintf("%s to be %s %s", path, relation, other))
	}
}

// checkNode requires that this node is one of the members.
func (l *loader) checkNode() {
	const path = "node.id"
	if _, ok := l.config.Member(l.config.Node.ID); ok || !l.good[path] {
		return
	}
	var ids []string
	for i, m := range l.config.Members {
		if !l.good[child(element(memberTable, i), "id")] {
			return // it may be this one
		}
		if id := fmt.Sprint(m.ID); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		l.report(path, "no such member", "the id of a member: "+oneOf(ids))
	}
}

// checkMembers requires that no two members have an id or an address in common.
func (l *loader) checkMembers() {
	seen := make(map[string]string)
	for i := range l.config.Members {
		m := &l.config.Members[i]
		for _, s := range m.settings() {
			path := child(element(memberTable, i), s.key)
			if !l.good[path] || !s.required() { // flags may be alike
				continue
			}
			kind, own, each := "address", strings.ToLower(s.value.String()), "member and listener"
			if s.key == "id" {
				kind, each = "id", "member"
			}
			if first, twice := seen[kind+own]; twice {
				l.report(path, fmt.Sprintf("the same as %s in line %d", label(first),
					l.places[first].line), "another "+kind+" for each "+each)
				continue
			}
			seen[kind+own] = path
			if a, ok := s.value.(address); ok {
				l.checkHost(path, s.key, *a.field, a.example)
			}
		}
	}
}

// checkHost holds an address against listen.public, and requires one that can be dialled where
// others are told it.
func (l *loader) checkHost(path, key, address, example string) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return
	}
	ip, err := netip.ParseAddr(host)
	named := err != nil
	if key != "admin" && !named && ip.IsUnspecified() {
		l.report(path, "nobody can dial this address",
			fmt.Sprintf("an address at which the others reach this member, such as %q", example))
		return
	}
	public, there := l.good["listen.public"]
	if l.config.Listen.Public || there && !public {
		return
	}
	if named && !strings.EqualFold(host, "localhost") || !named && !ip.Unmap().IsLoopback() {
		l.report(path, "beyond loopback, and public is false in [listen]",
			fmt.Sprintf("a loopback address such as %q, or public = true in [listen]", example))
	}
}
