package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/connectraft/connect/internal/admin"
	"github.com/connectraft/connect/node"
)

// changeMembersMax bounds what one change names.
const changeMembersMax = 64

// getMembers answers who the members of a group are, ?group=N or the first.
func (a *adminListener) getMembers(w http.ResponseWriter, r *http.Request) {
	id, err := groupOf(r)
	if err != nil {
		answerError(w, err)
		return
	}
	g, err := a.server.find(id)
	if err != nil {
		answerError(w, err)
		return
	}
	answerJSON(w, membershipOf(g.ID(), g.Membership()))
}

// find returns a group that runs here; 0 is the first one.
func (s *Server) find(id uint64) (*node.Group, error) {
	if g := s.node.Group(cmp.Or(id, groupID)); g != nil {
		return g, nil
	}
	return nil, &admin.Error{Kind: admin.KindNotFound, Outcome: admin.NotDone, Message: fmt.Sprintf(
		"group %d does not run on node %d; GET /v1/groups lists those that do", cmp.Or(id, groupID),
		s.config.Node.ID)}
}

// postMembers changes the members of a group: lines of progress, then one with the end.
func (a *adminListener) postMembers(w http.ResponseWriter, r *http.Request) {
	var wanted admin.Change
	err := decode(w, r, &wanted)
	if err == nil {
		err = checkChange(&wanted)
	}
	var g *node.Group
	if err == nil {
		g, err = a.server.find(wanted.Group)
	}
	if err != nil {
		answerError(w, err)
		return
	}
	s, release, err := a.openStream(w)
	if err != nil {
		answerError(w, err)
		return
	}
	defer release()
	a.server.logger.Info("change of members asked for", "group", g.ID(), "from", r.RemoteAddr,
		"change", fmt.Sprintf("%+v", wanted))
	a.followChange(r.Context(), s, g, changeOf(&wanted))
}

// changeEnd is how a change ended.
type changeEnd struct {
	membership node.Membership
	err        error
}

// followChange carries a change out while who asked listens. When nobody does any more the change
// is given up, which leaves it where it is.
func (a *adminListener) followChange(ctx context.Context, s *stream, g *node.Group,
	change node.Change) {
	ctx, cancel := context.WithCancel(ctx)
	progress, end := make(chan node.ChangeProgress, 16), make(chan changeEnd, 1)
	go func() {
		m, err := g.Change(ctx, change, func(p node.ChangeProgress) {
			select {
			case progress <- p:
			default: // who asked reads too slowly; the next line tells more
			}
		})
		end <- changeEnd{m, err}
	}()
	ticker := time.NewTicker(streamPeriod)
	defer ticker.Stop()
	var last node.Phase
	var told time.Time
	for {
		var err error
		select {
		case p := <-progress:
			// The group looks at itself every tick; people and programs need less.
			if p.Phase == last && time.Since(told) < progressPeriod {
				continue
			}
			last, told = p.Phase, time.Now()
			err = s.send(admin.Line{Progress: progressOf(&p)})
		case <-ticker.C:
			err = s.alive()
		case e := <-end:
			cancel()
			_ = s.send(endOf(g.ID(), &e)) // who asked may be gone
			return
		}
		if err != nil {
			cancel()
			<-end
			return
		}
	}
}

func endOf(group uint64, e *changeEnd) admin.Line {
	if e.err != nil {
		return admin.Line{Error: errorOf(e.err)}
	}
	m := membershipOf(group, e.membership)
	return admin.Line{Membership: &m}
}

// postTransfer hands the leadership of a group over.
func (a *adminListener) postTransfer(w http.ResponseWriter, r *http.Request) {
	var wanted admin.Transfer
	err := decode(w, r, &wanted)
	if err == nil && wanted.To == 0 {
		err = invalid("to = 0: want the id of a member")
	}
	var g *node.Group
	if err == nil {
		g, err = a.server.find(wanted.Group)
	}
	if err != nil {
		answerError(w, err)
		return
	}
	ctx, cancel := limited(r)
	defer cancel()
	answerDone(w, g.Transfer(ctx, wanted.To))
}

// postDrain hands every leadership of this node over.
func (a *adminListener) postDrain(w http.ResponseWriter, r *http.Request) {
	if err := decode(w, r, new(admin.Drain)); err != nil {
		answerError(w, err)
		return
	}
	ctx, cancel := limited(r)
	defer cancel()
	answerDone(w, a.server.node.Drain(ctx))
}

// checkChange finds what can be seen to be wrong without asking the group; all of it.
func checkChange(c *admin.Change) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Empty() {
		bad("a change of nothing: want add, learn, promote, remove or readdress")
	}
	named := 0
	for _, list := range []struct {
		name    string
		members []admin.Member
	}{{"add", c.Add}, {"learn", c.Learn}, {"readdress", c.Readdress}} {
		named += len(list.members)
		for i, m := range list.members {
			checkMember(fmt.Sprintf("%s[%d]", list.name, i), &m, bad)
		}
	}
	for _, list := range []struct {
		name string
		ids  []uint64
	}{{"promote", c.Promote}, {"remove", c.Remove}} {
		named += len(list.ids)
		for i, id := range list.ids {
			if id == 0 {
				bad("%s[%d] = 0: want the id of a member", list.name, i)
			}
		}
	}
	if named > changeMembersMax {
		bad("%d members are named: want at most %d", named, changeMembersMax)
	}
	if len(errs) > 0 {
		return invalid("%v", errors.Join(errs...))
	}
	return nil
}

func checkMember(where string, m *admin.Member, bad func(format string, args ...any)) {
	if m.ID == 0 || m.ID > 1<<63-1 {
		bad("%s.id = %d: want a number from 1 to 2^63-1", where, m.ID)
	}
	for _, a := range []struct{ name, address string }{{"peer", m.Peer}, {"client", m.Client},
		{"admin", m.Admin}} {
		if !isDialable(a.address, a.name == "admin") {
			bad("%s.%s = %q: want host:port at which others reach the member", where, a.name, a.address)
		}
	}
}

// isDialable reports whether an address is host:port of one host; any is for those that may stand
// for every address of a host.
func isDialable(address string, any bool) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || len(address) > 300 {
		return false
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || any || !ip.IsUnspecified()
}

func changeOf(c *admin.Change) node.Change {
	return node.Change{Version: c.Version, Add: nodeMembers(c.Add), Learn: nodeMembers(c.Learn),
		Promote: c.Promote, Remove: c.Remove, Readdress: nodeMembers(c.Readdress)}
}

func nodeMembers(list []admin.Member) []node.Member {
	var members []node.Member
	for _, m := range list {
		members = append(members, node.Member{ID: m.ID, Address: m.Peer, Client: m.Client,
			Admin: m.Admin, Incarnation: m.Incarnation})
	}
	return members
}

func membershipOf(group uint64, m node.Membership) admin.Membership {
	return admin.Membership{Group: group, Version: m.Version, Joint: m.Joint,
		Voters: adminMembers(m.Voters), Learners: adminMembers(m.Learners),
		Leaving: adminMembers(m.Leaving)}
}

func progressOf(p *node.ChangeProgress) *admin.Progress {
	progress := &admin.Progress{Step: string(p.Phase)}
	for _, m := range p.Members {
		progress.Members = append(progress.Members, admin.MemberProgress(m))
	}
	return progress
}

func adminMembers(list []node.Member) []admin.Member {
	members := []admin.Member{}
	for _, m := range list {
		members = append(members, admin.Member{ID: m.ID, Peer: m.Address, Client: m.Client,
			Admin: m.Admin, Incarnation: m.Incarnation})
	}
	return members
}
