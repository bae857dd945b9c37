package server

import (
	"context"
	"net/http"

	"github.com/connectraft/connect/internal/admin"
)

// postGroups creates a group.
func (a *adminListener) postGroups(w http.ResponseWriter, r *http.Request) {
	var wanted admin.NewGroup
	err := decode(w, r, &wanted)
	if err == nil && wanted.Group == 0 {
		err = invalid("group = 0: want a number of 1 or more")
	}
	if err != nil {
		answerError(w, err)
		return
	}
	ctx, cancel := limited(r)
	defer cancel()
	a.server.logger.Info("new group asked for", "group", wanted.Group, "from", r.RemoteAddr)
	answerDone(w, a.server.changeGroups(func(k groupKeeper) error {
		return k.CreateGroup(ctx, wanted.Group)
	}))
}

// deleteGroup removes a group with everything in it.
func (a *adminListener) deleteGroup(w http.ResponseWriter, r *http.Request) {
	id, err := parseGroup(r.PathValue("group"))
	if err == nil && id == groupID {
		err = invalid("group %d: the first group knows of all others and cannot be removed", id)
	}
	if err != nil {
		answerError(w, err)
		return
	}
	ctx, cancel := limited(r)
	defer cancel()
	a.server.logger.Info("removal of a group asked for", "group", id, "from", r.RemoteAddr)
	answerDone(w, a.server.changeGroups(func(k groupKeeper) error {
		return k.RemoveGroup(ctx, id)
	}))
}

// groupKeeper is a node that creates and removes groups.
type groupKeeper interface {
	CreateGroup(ctx context.Context, id uint64) error
	RemoveGroup(ctx context.Context, id uint64) error
}

func (s *Server) changeGroups(change func(groupKeeper) error) error {
	if keeper, ok := any(s.node).(groupKeeper); ok {
		return change(keeper)
	}
	return invalid("this service has one group")
}
