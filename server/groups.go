package server

import (
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
	if err == nil {
		// A group that no node can start must not get into the catalog.
		if _, cannot := a.server.service.machines(wanted.Group); cannot != nil {
			err = invalid("%v", cannot)
		}
	}
	if err != nil {
		answerError(w, err)
		return
	}
	ctx, cancel := limited(r)
	defer cancel()
	a.server.logger.Info("new group asked for", "group", wanted.Group, "from", r.RemoteAddr)
	answerDone(w, a.server.node.CreateGroup(ctx, wanted.Group))
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
	answerDone(w, a.server.node.RemoveGroup(ctx, id))
}
