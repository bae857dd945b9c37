package main_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/connectraft/connect/internal/admin"
)

// fake is a cluster of admin listeners with one state between them. It does what it is asked at
// once, unless a test puts something in the way.
type fake struct {
	mu      sync.Mutex
	nodes   map[uint64]*fakeNode
	groups  map[uint64]*admin.Membership
	leader  uint64
	cluster string
	asked   []string // what was changed, in order
	// refuse is asked first by everything that changes something; nil = do it.
	refuse func(what string) *admin.Error
	// cut ends the connection of a change instead of an answer, after it has been done or not.
	cut func(what string) (cut, done bool)
}

type fakeNode struct {
	fake   *fake
	self   admin.Member
	state  string
	reason string
	server *httptest.Server
	own    map[uint64]*admin.Membership // what it believes, of a node that was removed; else nil
	told   func()                       // called when it has told its status, unless nil
}

// memberships are what the node tells of the groups that it has.
func (n *fakeNode) memberships() map[uint64]*admin.Membership {
	if n.own != nil {
		return n.own
	}
	has := maps.Clone(n.fake.groups)
	maps.DeleteFunc(has, func(_ uint64, m *admin.Membership) bool { return !isIn(m, n.self.ID) })
	return has
}

// newFake makes nodes 1 to size, all of them voters of the groups.
func newFake(t testing.TB, size int, groups ...uint64) *fake {
	t.Helper()
	f := &fake{nodes: make(map[uint64]*fakeNode), groups: make(map[uint64]*admin.Membership),
		leader: 1, cluster: "test"}
	for id := range uint64(size) {
		f.add(t, id+1, admin.StateServing)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range groups {
		f.groups[g] = &admin.Membership{Group: g, Version: 1}
		for id := range uint64(size) {
			f.groups[g].Voters = append(f.groups[g].Voters, f.nodes[id+1].self)
		}
	}
	return f
}

// add starts a node that is in no group.
func (f *fake) add(t testing.TB, id uint64, state string) *fakeNode {
	t.Helper()
	n := &fakeNode{fake: f, state: state}
	n.server = httptest.NewServer(n)
	t.Cleanup(n.server.Close)
	f.mu.Lock()
	defer f.mu.Unlock()
	n.self = admin.Member{ID: id, Admin: strings.TrimPrefix(n.server.URL, "http://"),
		Peer: fmt.Sprintf("127.0.0.1:%d", 100+id), Client: fmt.Sprintf("127.0.0.1:%d", 200+id)}
	f.nodes[id] = n
	return n
}

func (f *fake) address(id uint64) string { return f.nodes[id].self.Admin }

// set changes the cluster while it may be asked.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// disturb puts something in the way of what is asked from now on; nil for nothing.
func (f *fake) disturb(refuse func(what string) *admin.Error,
	cut func(what string) (cut, done bool)) {
	f.set(func() { f.refuse, f.cut = refuse, cut })
}

// changes are what was asked for since it was looked at last.
func (f *fake) changes() (asked []string) {
	f.set(func() { asked, f.asked = f.asked, nil })
	return asked
}

// voters of a group, by id.
func (f *fake) voters(group uint64) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []uint64
	for _, v := range f.groups[group].Voters {
		list = append(list, v.ID)
	}
	slices.Sort(list)
	return fmt.Sprint(list)
}

func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.fake.mu.Lock()
	defer n.fake.mu.Unlock()
	group, _ := strconv.ParseUint(r.URL.Query().Get("group"), 10, 64)
	body := json.NewDecoder(r.Body)
	if r.Method != http.MethodGet && r.Header.Get("Content-Type") != "application/json" {
		panic("a change without the Content-Type of JSON")
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /v1/status":
		reply(w, n.status(group))
		if n.told != nil {
			n.told()
		}
	case "GET /v1/members":
		m := n.memberships()[group]
		if m == nil {
			fail(w, &admin.Error{Message: "no such group here", Kind: admin.KindNotFound})
			return
		}
		reply(w, m)
	case "GET /v1/groups":
		reply(w, admin.Groups{Groups: n.status(0).Groups})
	case "GET /v1/events":
		for i := range uint64(3) {
			fmt.Fprintf(w, "\n")
			_ = json.NewEncoder(w).Encode(admin.Event{Node: n.self.ID, Kind: "leader_changed", Group: 1,
				Peer: i + 1, Term: 7, Detail: "as told"})
		}
	case "POST /v1/members":
		var c admin.Change
		must(body.Decode(&c))
		n.change(w, &c)
	case "POST /v1/transfer":
		var c admin.Transfer
		must(body.Decode(&c))
		n.do(w, fmt.Sprintf("transfer of %d to %d", c.Group, c.To), func() { n.fake.leader = c.To })
	case "POST /v1/drain":
		n.do(w, fmt.Sprintf("drain of %d", n.self.ID), func() { n.fake.leader = n.self.ID%3 + 1 })
	case "POST /v1/groups":
		var g admin.NewGroup
		must(body.Decode(&g))
		n.do(w, fmt.Sprintf("group %d", g.Group), func() {
			m := *n.fake.groups[1]
			m.Group = g.Group
			n.fake.groups[g.Group] = &m
		})
	case "DELETE /v1/groups/" + lastWord(r.URL.Path):
		id, err := strconv.ParseUint(lastWord(r.URL.Path), 10, 64)
		must(err)
		n.do(w, fmt.Sprintf("no group %d", id), func() { delete(n.fake.groups, id) })
	default:
		panic("nobody answers " + r.Method + " " + r.URL.Path)
	}
}

func lastWord(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func reply(w http.ResponseWriter, v any) { must(json.NewEncoder(w).Encode(v)) }

func fail(w http.ResponseWriter, e *admin.Error) {
	w.WriteHeader(http.StatusConflict)
	reply(w, admin.Failure{Error: e})
}

func isIn(m *admin.Membership, id uint64) bool {
	found, _ := m.Find(id)
	return found != nil
}

func (n *fakeNode) status(group uint64) admin.Status {
	s := admin.Status{Cluster: n.fake.cluster, Self: n.self, State: n.state, NotReady: n.reason}
	for id, m := range n.memberships() {
		if n.own == nil {
			s.Summary.Groups++
		}
		if group != 0 && group != id {
			continue
		}
		g := admin.Group{Group: id, Role: "follower", Leader: n.fake.leader, Term: 7, Commit: 12,
			Applied: 12 - n.self.ID, LogBytes: 2048, SnapshotIndex: 5, SnapshotBytes: 1024,
			NotReady: n.reason, Membership: *m}
		if n.fake.leader == n.self.ID {
			g.Role = "leader"
		}
		s.Groups = append(s.Groups, g)
	}
	if n.reason != "" {
		s.Summary.NotReady = s.Summary.Groups
	}
	return s
}

// do carries out what was asked, unless the test is against it.
func (n *fakeNode) do(w http.ResponseWriter, what string, work func()) {
	f := n.fake
	f.asked = append(f.asked, what)
	if f.refuse != nil {
		if e := f.refuse(what); e != nil {
			fail(w, e)
			return
		}
	}
	if f.cut != nil {
		if cut, done := f.cut(what); cut {
			if done {
				work()
			}
			panic(http.ErrAbortHandler)
		}
	}
	work()
	reply(w, admin.Done{Done: true})
}

func (n *fakeNode) change(w http.ResponseWriter, c *admin.Change) {
	f, m := n.fake, n.fake.groups[c.Group]
	if n.own != nil {
		reply(w, admin.Line{Membership: n.own[c.Group]})
		return
	}
	if m == nil || !isIn(m, n.self.ID) {
		fail(w, &admin.Error{Message: "no such group here", Kind: admin.KindNotFound})
		return
	}
	what := fmt.Sprintf("group %d add %d learn %d promote %d remove %d readdress %d", c.Group,
		list(c.Add), list(c.Learn), c.Promote, c.Remove, list(c.Readdress))
	f.asked = append(f.asked, what)
	if f.refuse != nil {
		if e := f.refuse(what); e != nil {
			reply(w, admin.Line{Progress: &admin.Progress{Step: "asking the leader"}})
			reply(w, admin.Line{Error: e})
			return
		}
	}
	cut, done := false, true
	if f.cut != nil {
		cut, done = f.cut(what)
	}
	if done || !cut {
		m = changed(m, c)
		f.groups[c.Group] = m
	}
	reply(w, admin.Line{Progress: &admin.Progress{Step: "catching up", Members: []admin.MemberProgress{
		{ID: 4, Connected: true, Entries: 10, Bytes: 2048}}}})
	fmt.Fprintln(w)
	if cut {
		must(http.NewResponseController(w).Flush())
		panic(http.ErrAbortHandler)
	}
	reply(w, admin.Line{Membership: m})
}

func list(members []admin.Member) []uint64 {
	var ids []uint64
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	return ids
}

func changed(m *admin.Membership, c *admin.Change) *admin.Membership {
	after := admin.Membership{Group: m.Group, Version: m.Version + 1}
	keep := func(v admin.Member) bool { return !slices.Contains(c.Remove, v.ID) }
	move := func(v admin.Member) admin.Member {
		for _, r := range c.Readdress {
			if r.ID == v.ID {
				return r
			}
		}
		return v
	}
	for _, v := range slices.Concat(m.Voters, c.Add) {
		if keep(v) {
			after.Voters = append(after.Voters, move(v))
		}
	}
	for _, l := range slices.Concat(m.Learners, c.Learn) {
		switch {
		case slices.Contains(c.Promote, l.ID):
			after.Voters = append(after.Voters, move(l))
		case keep(l):
			after.Learners = append(after.Learners, move(l))
		}
	}
	return &after
}
